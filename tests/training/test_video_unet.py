"""What a step of the U-Net's training looks at, and that every stage learns from it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mutoscope.data.captions import every_wording
from mutoscope.data.examples import Clips, Examples
from mutoscope.data.world import SMALL
from mutoscope.diffusion.colours import opponent
from mutoscope.diffusion.linear import Guess, Linear
from mutoscope.diffusion.objective import Weighting
from mutoscope.diffusion.process import Process
from mutoscope.models.text import TextEncoder, TextEncoderConfig
from mutoscope.models.tokenizer import Tokenizer
from mutoscope.models.unet import UNet
from mutoscope.models.unet_config import UNetConfig, align, vdm
from mutoscope.models.words import Words
from mutoscope.training.known import KnownSettings
from mutoscope.training.video_unet import UNetSettings, UNetTask
from mutoscope.video import Refusal

TOKENIZER = Tokenizer.train(every_wording(SMALL), 400)
KNOWN = KnownSettings(kind="prediction", noise=0.3)


def examples(frames: int, *, side: int = 8, first: int = 0) -> Clips:
    """Films that hold their own number everywhere, and say it: film n is n / 100 and "n". The subject is what
    is right of the middle."""

    def films(step: int, count: int) -> Examples:
        numbers = first + step * count + torch.arange(count)
        values = numbers[:, None, None, None, None].float() / 100
        figure = torch.zeros(count, frames, side, side)
        figure[..., side // 2 :] = 1
        captions = [str(int(n)) for n in numbers]
        return Examples(values.expand(-1, 3, frames, side, side).clone(), captions, figure)

    return films


def words() -> Words:
    torch.manual_seed(1)
    config = TextEncoderConfig(
        vocabulary=TOKENIZER.vocabulary_size, width=16, layers=1, heads=2, head_dim=8, ffn_dim=16
    )
    return Words(TOKENIZER, TextEncoder(config), padded_to=32)


def network(*, known: bool = False, text: bool = True, **changes: Any) -> UNet:
    """A small network whose every weight is random, so that nothing is hidden by a zero."""
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "in_channels": 7 if known else 3, "out_channels": 3, "channels": (8, 16), "layers": 1,
        "attention": (False, True), "heads": (2, 2), "groups": 4, "time": vdm(), "labels": int(known),
        "label_dim": 8, "text_dim": 16 if text else None,
    }  # fmt: skip
    unet = UNet(UNetConfig(**values | changes))
    with torch.no_grad():
        for weight in unet.parameters():
            weight.normal_(std=0.2)
    return unet


def task_of(*, unet: UNet | None = None, text: bool = True, side: int = 8, **changes: Any) -> UNetTask:
    settings = UNetSettings(**{"clips": 3, "frames": 4, "pictures": 2, "unconditional": 0.0} | changes)
    return UNetTask(
        unet or network(known=settings.known is not None, text=text),
        words() if text else None,
        settings=settings,
        clips=examples(settings.frames, side=side) if settings.frames else None,
        pictures=examples(1, side=side, first=50),
    )


def loss(task: UNetTask, step: int = 0) -> dict[str, Tensor]:
    return task.loss(step, torch.Generator().manual_seed(step))


def gaussian(frames: int, linear: Linear, *, seed: int) -> Clips:
    """Films that are what the guess was measured to be, said to be nothing."""

    def films(step: int, count: int) -> Examples:
        generator = torch.Generator().manual_seed(1000 * seed + step)
        film = torch.zeros(count, 3, frames, 8, 8)
        for variances, own in ((linear.still, 1), (linear.change, frames)):
            white = torch.randn(count, 3, own, 8, 8, generator=generator).expand_as(film)
            size = variances.sqrt().expand(count, frames, -1)
            film = linear.completed(Guess(film, new=film, lacks=size), white)
        return Examples(film, [""] * count)

    return films


def first_guess() -> Linear:
    """Of patches of 4 pixels, with directions of many sizes and mean 0."""
    generator = torch.Generator().manual_seed(3)
    directions = torch.linalg.qr(torch.randn(48, 48, generator=generator)).Q
    sizes = torch.logspace(-3, 1, 48)
    return Linear(4, torch.zeros(48), directions, sizes, sizes.flip(0) / 10)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_before_anything_is_learnt_every_level_counts_alike(t: float):
    """By EDM's weight, of films that are what the first guess says: what it lacks has variance 1."""
    linear, unet = first_guess(), network(in_channels=9, text=False)
    for weight in unet.last.parameters():
        torch.nn.init.zeros_(weight)
    settings = UNetSettings(clips=20, frames=4, pictures=4, weighting=Weighting(name="edm"))
    task = UNetTask(
        unet, None, settings=settings, linear=linear,
        clips=gaussian(4, linear, seed=1), pictures=gaussian(1, linear, seed=2),
    )  # fmt: skip
    task._times = lambda batch, generator: torch.full((batch, 8), t)  # type: ignore[method-assign]
    assert float(loss(task)["loss"].detach()) == pytest.approx(1, rel=0.05)


def test_two_first_guesses_are_refused():
    with pytest.raises(Refusal, match="two first guesses"):
        UNetTask(
            network(in_channels=9, text=False), None, linear=first_guess(),
            settings=UNetSettings(frames=0, pictures=2, process=Process(deviation=0.5)),
            pictures=examples(1),
        )  # fmt: skip


EVERY_KIND: dict[str, dict[str, Any]] = {
    "clips and pictures": {},
    "clips alone": {"pictures": 0},
    "pictures alone": {"frames": 0, "pictures": 3},
    "one clip, many pictures": {"clips": 1, "pictures": 7},
    "prediction": {"known": KNOWN},
    "interpolation": {"known": KnownSettings(kind="interpolation", every=3, unconditional=0.5)},
    "random": {"known": KnownSettings(kind="random")},
    "upsampling patches": {"known": KnownSettings(kind="small", factor=2, noise=0.2), "patch": (4, 6)},
    "pictures, upsampled": {"frames": 0, "known": KnownSettings(kind="small", factor=2)},
    "noise, on a table": {"process": Process(schedule="scaled_linear", prediction="noise")},
    "flow, on the straight line": {"process": Process(schedule="straight", prediction="flow")},
    "films of a deviation": {"process": Process(deviation=0.4), "known": KNOWN},
    "what a guess lacks": {"process": Process(guesses=True), "known": KNOWN},
    "opponent colours": {"process": Process(colours="opponent")},
    "mixed noise": {"prior": {"name": "mixed"}},
    "min-SNR": {"weighting": {"name": "min_snr"}},
    "heavier figures": {"figure": 3.0},
    "heavier figures in patches": {
        "figure": 3.0, "known": KnownSettings(kind="small", factor=2), "patch": (4, 6)
    },
    "times of their own": {"times": {"distribution": "uniform", "independent": 1.0}},
    "without words": {"text": False},
}


@pytest.mark.parametrize("changes", EVERY_KIND.values(), ids=EVERY_KIND.keys())
def test_every_stage_has_a_finite_loss_and_a_gradient_for_every_weight(changes: dict[str, Any]):
    task = task_of(**changes)
    found = loss(task)
    found["loss"].backward()
    assert all(value.isfinite() for value in found.values())
    assert ("clips" in found, "pictures" in found) == (task.asked.frames > 0, task.asked.pictures > 0)
    assert set(task.modules) == {"unet"} | ({"text_encoder"} if task.words else set())
    for module in task.modules.values():
        assert all(w.grad is None or bool(w.grad.isfinite().all()) for w in module.parameters())
        assert any(w.grad is not None and bool(w.grad.any()) for w in module.parameters())


@pytest.mark.parametrize("changes", [{}, {"known": KNOWN}, {"frames": 0}], ids=str)
def test_the_loss_falls_in_a_few_steps(changes: dict[str, Any]):
    task = task_of(**changes)
    weights = [weight for module in task.modules.values() for weight in module.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=3e-3)
    found = []
    for _ in range(30):
        now = loss(task)["loss"]
        optimizer.zero_grad()
        now.backward()
        optimizer.step()
        found.append(float(now.detach()))
    assert found[-1] < 0.8 * found[0]


class Seen(torch.nn.Module):
    """A network that keeps what it was told, and says nothing: its error is that of saying 0."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, self.weight = config, torch.nn.Parameter(torch.zeros(()))

    def temporal_parameters(self):
        return iter(())

    def forward(self, noisy: Tensor, t: Tensor, **told: Any) -> Tensor:
        self.noisy, self.t, self.told = noisy, t, told
        return self.weight * noisy[:, :3]


def told(step: int = 0, **changes: Any) -> tuple[UNetTask, Seen, dict[str, Tensor]]:
    task = task_of(**changes)
    seen = Seen(task.unet.config)
    object.__setattr__(task.network, "network", seen)
    return task, seen, loss(task, step)


def clean_at(t: float) -> dict[str, Any]:
    """Times so near 0 that the noisy film is the clean one."""
    return {"times": {"distribution": "log_normal", "mean": -t, "std": 1e-3}, "process": Process(limit=60.0)}


def test_pictures_follow_their_clip_and_are_flagged():
    _, seen, _ = told()
    assert seen.noisy.shape == (3, 3, 6, 8, 8)
    assert seen.told["images"].tolist() == [[False] * 4 + [True] * 2] * 3


def test_clips_and_pictures_of_a_step_are_the_next_ones_of_their_sources():
    _, seen, _ = told(step=1, **clean_at(12.0))
    numbers = (seen.noisy[:, 0, :, 0, 0] * 100).round().int()
    assert numbers.tolist() == [[3] * 4 + [56, 57], [4] * 4 + [58, 59], [5] * 4 + [60, 61]]


def test_every_frame_is_told_its_own_caption():
    """Clips theirs for all frames, every picture the one that is true of it."""
    task, seen, _ = told()
    text = seen.told["text"]
    captions = [c for k in range(3) for c in [str(k)] * 4 + [str(50 + 2 * k), str(51 + 2 * k)]]
    expected = task.words(TOKENIZER.encode(captions, length=task.asked.text_length))  # type: ignore[misc]
    torch.testing.assert_close(text.rows, expected.rows)
    assert torch.equal(text.mask, expected.mask) and len(text.rows) == 18


def test_clips_alone_are_told_one_caption_each():
    _, seen, _ = told(pictures=0)
    assert len(seen.told["text"].rows) == 3 and seen.told["images"] is None


def test_pictures_have_a_time_of_their_own_and_clips_one_for_all_frames():
    _, seen, _ = told()
    assert seen.t.shape == (3, 6) and (seen.t[:, :4] == seen.t[:, :1]).all()
    assert len(seen.t[:, 3:].unique()) == 9
    assert seen.t.max() > 1  # the clock, not the time


def test_the_noise_of_a_clip_follows_its_prior_and_that_of_pictures_is_white():
    settings = {"prior": {"name": "mixed", "a": 1e6}, "times": {"distribution": "log_normal", "mean": 20.0}}
    _, seen, _ = told(process=Process(limit=60.0), **settings)
    frames = seen.noisy[:, :, :4]
    torch.testing.assert_close(frames, frames[:, :, :1].expand_as(frames), rtol=0, atol=1e-4)
    assert (seen.noisy[:, :, 4:] - seen.noisy[:, :, :1]).abs().mean() > 0.5


def test_what_is_trained_on_has_the_colours_of_the_process():
    at = clean_at(12.0)
    process = at["process"].model_copy(update={"colours": "opponent"})
    _, plain, _ = told(**at)
    _, seen, _ = told(**at | {"process": process})
    torch.testing.assert_close(seen.noisy, opponent(plain.noisy), rtol=0, atol=1e-3)


def test_a_velocity_of_films_of_a_deviation_has_edms_loss():
    """The plain error of what is said is that of the clean film at EDM's weight, SNR + 1 / std^2."""
    process = Process(deviation=0.4)
    task = task_of(process=process, text=False)
    found = loss(task)["loss"]
    seen: dict[str, Tensor] = {}

    def watched(noisy: Tensor, t: Tensor, condition: Any) -> Tensor:
        seen.update(noisy=noisy, t=t, said=network(noisy, t, condition))
        return seen["said"]

    network, task.network = task.network, watched  # type: ignore[assignment]
    torch.testing.assert_close(loss(task)["loss"], found)
    denoiser = process.denoiser(lambda noisy, t, condition: seen["said"])
    guess, level = denoiser(seen["noisy"], seen["t"], None), process.noising().level(seen["t"])
    clean = task._coming(0).clean
    error = (guess - clean).square().mean(dim=(1, 3, 4)) * Weighting(name="edm", std=0.4)("clean", level)
    torch.testing.assert_close(error.mean(), found, rtol=1e-4, atol=0)


@pytest.mark.parametrize("patch", [None, (4, 6)], ids=str)
def test_a_figure_weighs_more_in_the_loss_and_nowhere_else(patch: tuple[int, int] | None):
    """The loss is linear in the weight: halves of 1.75 and 0.25 of the mean for 6 more; parts are plain."""
    small = {"known": KnownSettings(kind="small", factor=2), "patch": patch} if patch else {}
    settings = {"weighting": {"name": "none"}, "text": False} | small
    task, seen, plain = told(**settings)
    heavy_task, _, heavy = told(**settings, figure=6.0)
    assert heavy["clips"] == plain["clips"] and heavy["pictures"] == plain["pictures"]
    weights = torch.ones(8)
    weights[4:] = 7
    weights /= weights.mean()
    coming = heavy_task._coming(0)
    assert coming.heavy is not None and torch.equal(coming.heavy, weights.expand(3, 1, 6, 8, 8))
    target = velocities(task, seen, coming.clean)
    _, _, cut = heavy_task._part(coming.clean, None, coming)
    assert cut is not None and cut.shape[-2:] == (patch or (8, 8))
    torch.testing.assert_close(heavy["loss"].detach(), (target.square() * cut).mean(), rtol=1e-4, atol=0)
    assert abs(heavy["loss"] / plain["loss"] - 1) > 1e-4


def velocities(task: UNetTask, seen: Seen, clean: Tensor) -> Tensor:
    """alpha noise - sigma clean of what the network saw, where every clip is one number everywhere."""
    level = task.schedule.level(seen.t / 1000)
    alpha, sigma = (part[:, None, :, None, None] for part in (level.alpha, level.sigma))
    films = clean[..., : seen.noisy.shape[-2], : seen.noisy.shape[-1]]
    return alpha * (seen.noisy[:, :3] - alpha * films) / sigma - sigma * films


def test_a_figure_that_nobody_knows_cannot_weigh_more():
    task = UNetTask(
        network(text=False), None, settings=UNetSettings(frames=4, figure=3.0),
        clips=lambda step, count: Examples(torch.zeros(count, 3, 4, 8, 8), [""] * count),
    )  # fmt: skip
    with pytest.raises(Refusal, match=r"figure is 3\.0, and nothing says where"):
        loss(task)


def test_the_error_of_known_frames_does_not_count():
    """All of a clip but its last frame is known: the loss is that frame's, and the pictures'."""
    known = KnownSettings(kind="prediction", context=(3,))
    _, seen, found = told(known=known, weighting={"name": "none"})
    assert seen.noisy.shape[1] == 7 and seen.told["labels"].shape == (3, 1)
    assert torch.equal(seen.noisy[0, 6, :, 0, 0], torch.tensor([1.0, 1, 1, 0, 0, 0]))
    per_frame = (3 * found["clips"] + 6 * found["pictures"]) / (3 * 6)
    torch.testing.assert_close(found["loss"].detach(), per_frame, rtol=1e-5, atol=0)


def test_a_small_version_counts_every_frame_and_is_cut_with_its_film():
    _, seen, _ = told(known=KnownSettings(kind="small", factor=2), patch=(4, 6), **clean_at(12.0))
    assert seen.noisy.shape == (3, 7, 6, 4, 6)
    torch.testing.assert_close(seen.noisy[:, :3], seen.noisy[:, 3:6], rtol=0, atol=1e-3)
    assert seen.noisy[:, 6].eq(1).all()


def test_patches_lie_on_the_grid_of_the_small_version_and_everywhere():
    task = task_of(known=KnownSettings(kind="small", factor=2), patch=(2, 4))
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    film = (10 * rows + columns).expand(1, 3, 1, 8, 8)
    corners = set()
    for step in range(60):
        part, *_ = task._part(film, None, task._coming(step))
        corners.add((int(part[0, 0, 0, 0, 0]) // 10, int(part[0, 0, 0, 0, 0]) % 10))
    assert corners == {(top, left) for top in (0, 2, 4, 6) for left in (0, 2, 4)}


def test_a_share_of_the_captions_is_left_away():
    empty = TOKENIZER.encode([""], length=32).ids[0]
    for share in (0.0, 0.3, 1.0):
        task = task_of(unconditional=share)
        ids = torch.cat([task._collect(step).tokens.ids for step in range(40)])  # type: ignore[union-attr]
        found = float((ids == empty).all(1).float().mean())
        assert found == pytest.approx(share, abs=0.1 if 0 < share < 1 else 0)


def test_a_step_is_a_function_of_the_step_and_the_generator():
    one, again = (loss(task_of(known=KNOWN), step=5)["loss"] for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, loss(task_of(known=KNOWN), step=6)["loss"])


def test_only_what_an_image_model_lacks_is_trained_if_asked():
    """Frozen weights have no gradient and do not move; those over frames do."""
    unet = network(time=align())
    task = task_of(unet=unet, trainable="temporal", pictures=0)
    own = {id(weight) for weight in unet.temporal_parameters()}
    loss(task)["loss"].backward()
    for weight in unet.parameters():
        assert (weight.grad is not None) == (id(weight) in own)
    assert not any(weight.requires_grad for weight in task.words.parameters())  # type: ignore[union-attr]
    assert all(weight.requires_grad for weight in task_of(unet=unet).unet.parameters())


def test_pictures_do_not_train_merged_layers_over_frames():
    """Merged by alpha, which is 1 for pictures: exactly zero gradients."""
    unet = network(time=align())
    task = task_of(unet=unet, frames=0, pictures=3)
    loss(task)["loss"].backward()
    assert all(w.grad is None or not w.grad.any() for w in unet.temporal_parameters())


def test_a_clips_loss_does_not_depend_on_the_pictures_beside_it():
    """The same noise and times, other pictures: the clips' error is bit for bit the same."""
    task = task_of()
    first = loss(task)["clips"]
    task.pictures, task._coming = examples(1, first=90), type(task._coming)(task._collect)
    second = loss(task)
    torch.testing.assert_close(second["clips"], first, rtol=1e-6, atol=0)
    assert not torch.equal(second["pictures"], loss(task_of())["pictures"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unet": network(), "known": KNOWN}, "takes 3 channels and 0 labels; .* it must be 7 and 1"),
        ({"unet": network(known=True)}, "takes 7 channels and 1 labels; .* it must be 3 and 0"),
    ],
)
def test_a_network_without_the_channels_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(Refusal, match=message):
        task_of(**changes)


def test_clips_from_nowhere_or_of_another_length_are_refused():
    with pytest.raises(Refusal, match="2 pictures a step"):
        UNetTask(network(), words(), settings=UNetSettings(frames=4, pictures=2), clips=examples(4))
    task = UNetTask(network(), words(), settings=UNetSettings(frames=4), clips=examples(5))
    with pytest.raises(Refusal, match="have 5 frames and 4"):
        task._collect(0)


def test_settings_that_ask_for_nothing_are_refused():
    with pytest.raises(ValueError, match="no frames and no pictures"):
        UNetSettings(frames=0, pictures=0)
    with pytest.raises(ValueError, match="show no frame of themselves"):
        UNetSettings(frames=0, pictures=2, known=KNOWN)
    with pytest.raises(ValueError, match="nothing is known to guess from"):
        UNetSettings(process=Process(guesses=True))
    with pytest.raises(ValueError, match="stages that enlarge films see rgb"):
        UNetSettings(process=Process(colours="opponent"), known=KnownSettings(kind="small", factor=2))


def test_the_settings_name_the_networks_and_what_is_asked():
    settings = task_of(known=KNOWN).settings
    assert set(settings) == {"unet", "text_encoder", "task"} and settings["task"]["known"]["noise"] == 0.3
    assert "text_encoder" not in task_of(text=False).settings
    assert "compiled" not in settings["task"]  # a run may go on with or without a compiler


def test_every_part_of_every_layer_is_compiled_for_each_shape_by_itself(monkeypatch: pytest.MonkeyPatch):
    compiled: list[tuple[torch.nn.Module, bool | None]] = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, *, dynamic=None: compiled.append((module, dynamic))
    )
    unet = task_of(unet=network(time=vdm(convs=2)), compiled=True).unet
    layers = [layer for stage in (*unet.down, unet.middle, *unet.up) for layer in stage.layers]
    assert compiled == [(part, False) for layer in layers for part in layer.children()]
    assert len(compiled) > len(layers)
    task_of()
    assert len(compiled) == len([part for layer in layers for part in layer.children()])
    compiled.clear()
    unet = task_of(unet=network(time=vdm(convs=2)), compiled="small").unet
    kinds = {type(part).__name__ for part, _ in compiled}
    assert kinds == {"FrameNorm", "TimeNorm", "LayerNorm", "Feed"} and all(dynamic for _, dynamic in compiled)
    assert len(compiled) == len([part for part in unet.modules() if type(part).__name__ in kinds])
