"""Align Your Latents in seconds: every stage in its order, what each leaves alone, and a run that goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mutoscope.checkpoints import store
from mutoscope.checkpoints.hierarchy_folder import HierarchyModel, load_hierarchy
from mutoscope.data.examples import Examples
from mutoscope.data.loader import WorldSource
from mutoscope.hierarchy_recipes import HIERARCHY_RECIPES
from mutoscope.models.image_autoencoder import temporal_weights
from mutoscope.models.temporal import Merge
from mutoscope.models.unet import UNet
from mutoscope.models.unet_config import TimeConfig, UNetConfig, align, vdm
from mutoscope.pipelines import load
from mutoscope.pipelines.hierarchy import Hierarchy
from mutoscope.recipes import resolve
from mutoscope.training.course import Event
from mutoscope.training.hierarchy_course import HierarchyRecipe, in_turn, inserted, run

STAGES = ["autoencoder", "latents", "pictures", "key frames", "decoder", "between", "larger pictures",
          "larger clips", "model"]  # fmt: skip
PIECES = ("autoencoder", "pictures", "keys", "decoder", "between", "larger.pictures", "larger.clips")


def recipe_of(**changes: str) -> HierarchyRecipe:
    short = {f"{piece}.train.steps": "2" for piece in PIECES} | {"latents": "4"}
    found = resolve("align-smoke", short | changes)
    assert isinstance(found, HierarchyRecipe)
    return found


@pytest.fixture(scope="module", autouse=True)
def _few_clips() -> Iterator[None]:
    """Latents are measured on 8 clips, not on 64: drawing those is most of what a run begins with."""
    batch = WorldSource.batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorldSource, "batch", lambda self, step, count: batch(self, step, min(count, 8)))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    out = tmp_path_factory.mktemp("whole")
    return out, list(run(recipe_of(), out))


@pytest.fixture(scope="module")
def made(whole: tuple[Path, list[Event]]) -> HierarchyModel:
    return load_hierarchy(whole[0] / "model")


def averaged(out: Path, stage: str, module: str = "unet") -> dict[str, Tensor]:
    """What a stage has left to the next."""
    return store.load(out / stage / "checkpoints").weights(module)


def temporal(unet: UNet) -> set[str]:
    own = {id(weight) for weight in unet.temporal_parameters()}
    return {name for name, weight in unet.named_parameters() if id(weight) in own}


def test_the_stages_come_in_order_and_leave_a_folder_that_films(whole: tuple[Path, list[Event]]):
    out, events = whole
    assert list(dict.fromkeys(event.stage for event in events)) == STAGES
    maker = load(out / "model", precision="float32", device="cpu")
    assert (maker.facts.size, maker.facts.frames, maker.facts.fps) == ((32, 32), 9, 8)
    film = maker.generate("a man walking in the rain", steps=1)
    assert (len(film), film.size) == (9, (32, 32))
    assert not maker.remarks(maker.request("a man walking in the rain"))


def test_only_layers_over_frames_learn_on_clips(whole: tuple[Path, list[Event]], made: HierarchyModel):
    out, _ = whole
    before, names = averaged(out, "pictures"), temporal(made.unet)
    for stage, start in (("key-frames", before), ("between", averaged(out, "key-frames"))):
        after = averaged(out, stage)
        spatial = [name for name in start if name not in names and name != "first.weight"]
        assert all(torch.equal(start[name], after[name]) for name in spatial)
        width = start["first.weight"].shape[1]
        assert torch.equal(start["first.weight"], after["first.weight"][:, :width])
        assert any(not torch.equal(start[n], after[n]) for n in names if n in start) or stage == "key-frames"
    moved = averaged(out, "key-frames")
    assert any(bool(moved[name].any()) for name in names if name.endswith("out.weight"))
    assert torch.equal(
        torch.cat([w.flatten() for w in averaged(out, "pictures", "text_encoder").values()]),
        torch.cat([w.flatten() for w in averaged(out, "between", "text_encoder").values()]),
    )


def test_the_upscaler_learns_of_clips_in_its_layers_over_frames_alone(whole: tuple[Path, list[Event]]):
    out, _ = whole
    before, after = averaged(out, "larger-pictures"), averaged(out, "larger-clips")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed <= {name for name in before if name.startswith("labels.")}
    assert set(after) - set(before)


def test_the_upscaler_is_used_in_its_own_process(made: HierarchyModel):
    process = made.hierarchy.larger
    assert process is not None and process.guesses and not made.facts.process.guesses
    maker = Hierarchy(made, device="cpu")
    assert maker.enlarger is not None and maker.enlarger.rung.process == process
    assert maker._key.process == made.facts.process


def test_decoder_layers_over_frames_leave_the_encoder_as_it_was(
    whole: tuple[Path, list[Event]], made: HierarchyModel
):
    out, events = whole
    before, after = averaged(out, "autoencoder", "autoencoder"), averaged(out, "decoder", "autoencoder")
    names = {name for name, _ in temporal_weights(made.autoencoder)}
    kept = {name: weight for name, weight in after.items() if name not in names}
    assert len(kept) == len(before)
    assert all(torch.equal(weight, before[name.replace(".space.", ".")]) for name, weight in kept.items())
    assert any("the encoder is what it was" in event.text for event in events)


def test_latents_are_normalised_and_come_at_every_rate(whole: tuple[Path, list[Event]]):
    texts = [event.text for event in whole[1] if event.stage == "latents"]
    assert [text.split(" at ")[1] for text in texts] == [f"{rate} frames a second" for rate in (2, 4, 8)]


def network(*, labels: int = 0) -> UNet:
    torch.manual_seed(0)
    config = UNetConfig(
        in_channels=7 if labels else 3, out_channels=3, channels=(8, 16), layers=1, attention=(False, True),
        heads=(2, 2), groups=4, text_dim=None if labels else 16, labels=labels, label_dim=8,
    )  # fmt: skip
    unet = UNet(config)
    with torch.no_grad():
        for weight in unet.parameters():
            weight.normal_(std=0.2)
    return unet


@pytest.mark.parametrize("time", [align(), TimeConfig(), vdm()], ids=["align", "lvdm", "vdm"])
@pytest.mark.parametrize("labels", [0, 1])
def test_what_is_inserted_begins_as_nothing(labels: int, time: TimeConfig):
    """Pictures come out bit for bit; the network can be told, and what it learns is over frames."""
    pictures = network(labels=labels)
    film = inserted(pictures, time, told=not labels)
    assert (film.config.in_channels, film.config.labels) == (7, 1)
    assert all(0 < float(torch.sigmoid(m.mix.detach())) < 1 for m in film.modules() if isinstance(m, Merge))
    noisy = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    small = torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    t, told = torch.full((2, 4), 300.0), torch.zeros(2, 1)
    one = pictures(torch.cat([noisy, small], 1), t, labels=told) if labels else pictures(noisy, t)
    other = film(torch.cat([noisy, small if labels else small * 0], 1), t, labels=told)
    assert torch.equal(one, other)


def test_a_layer_that_is_no_identity_is_noticed(monkeypatch: pytest.MonkeyPatch):
    def spoiled(image: UNet, config: UNetConfig) -> UNet:
        model = UNet(config)
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(std=0.2)
        return model

    monkeypatch.setattr("mutoscope.training.hierarchy_course.inflate", spoiled)
    with pytest.raises(RuntimeError, match="changed what the model makes of pictures"):
        inserted(network(), align(), told=True)


def test_interrupted_and_resumed_gives_the_same_weights(whole: tuple[Path, list[Event]], tmp_path: Path):
    """Stopped within a stage and again between two; the end is that of the unbroken run, bit for bit."""
    for place in (("key frames", 1), ("larger pictures", 1)):
        going = run(recipe_of(), tmp_path)
        assert any((event.stage, event.done) == place for event in going)
        going.close()
    assert not (tmp_path / "model").exists()
    list(run(recipe_of(), tmp_path))
    for part in ("unet", "interpolation_unet", "upscaler_unet", "vae", "text_encoder"):
        one, other = ((out / "model" / part).glob("*.safetensors") for out in (whole[0], tmp_path))
        assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_the_same_call_again_trains_nothing(whole: tuple[Path, list[Event]]):
    events = [event.progress.event for event in run(recipe_of(), whole[0]) if event.progress is not None]
    assert events == ["finished"] * len(PIECES)


def test_it_goes_on_from_a_folder_and_leaves_out_what_is_done(
    whole: tuple[Path, list[Event]], made: HierarchyModel, tmp_path: Path
):
    """What is done stays as it is in the folder; what is not is trained from there."""
    done = set(STAGES) - {"latents", "between", "model"}
    events = list(run(recipe_of(), tmp_path, start=whole[0] / "model", done=done))
    assert {event.stage for event in events if event.progress is not None} == {"between"}
    again = load_hierarchy(tmp_path / "model")
    for name in ("unet", "upscaler", "autoencoder"):
        before, after = getattr(made, name).state_dict(), getattr(again, name).state_dict()
        assert all(torch.equal(before[key], after[key]) for key in before)
    assert made.interpolation is not None and again.interpolation is not None
    before, after = made.interpolation.state_dict(), again.interpolation.state_dict()
    assert 0 < max(float((before[key] - after[key]).abs().max()) for key in before) < 0.2
    assert again.autoencoder.config == made.autoencoder.config


def test_a_model_on_its_way_can_be_shown(whole: tuple[Path, list[Event]]):
    """Every event's model makes what it can: pictures, key frames, films, large films."""
    going, seen = run(recipe_of(), whole[0]), {}
    for event in going:
        if event.stage in ("pictures", "key frames", "between", "larger clips"):
            model = event.model()
            assert isinstance(model, HierarchyModel)
            maker = Hierarchy(model, precision="float32", device="cpu")
            film = maker.generate("a man walking in the rain", steps=1, frames=3)
            seen[event.stage] = (film.fps, film.size)
    assert seen == {
        "pictures": (2, (16, 16)), "key frames": (2, (16, 16)), "between": (8, (16, 16)),
        "larger clips": (8, (32, 32)),
    }  # fmt: skip


def test_sources_take_turns():
    def of(name: str):
        return lambda step, count: Examples(torch.zeros(count, 1, 1, 1, 1), [f"{name}{step}"] * count)

    both = in_turn([of("a"), of("b")])
    assert both is not None
    assert [both(step, 1).captions[0] for step in range(4)] == ["a0", "b0", "a1", "b1"]
    assert in_turn([]) is None


@pytest.mark.parametrize("name", HIERARCHY_RECIPES)
def test_recipes_are_complete_and_survive_json(name: str):
    recipe = HIERARCHY_RECIPES[name]
    assert resolve(name) == recipe == HierarchyRecipe.model_validate(recipe.model_dump(mode="json"))
    chain, clips = recipe.chain, recipe.clips
    side = 2 ** (len(recipe.coder.widths) - 1) * recipe.network.factor
    assert clips.width % side == 0 and clips.height % side == 0
    assert chain.stride == chain.every**chain.rounds and (chain.span - 1) % chain.every == 0


@pytest.mark.parametrize(
    "change",
    [
        {"keys.unet.frames": "4"}, {"pictures.unet.process.schedule": "linear"}, {"coder.z_dim": "6"},
        {"larger.clips.unet.process.guesses": "false"}, {"chain.larger": "{}"},
        {"between.unet.trainable": "all"},
        {
            f"{piece}.unet.process.deviation": "0.4"
            for piece in ("pictures", "keys", "between", "larger.pictures", "larger.clips")
        },
    ],
    ids=str,
)  # fmt: skip
def test_stages_that_do_not_fit_are_refused(change: dict[str, str]):
    said = r"chain makes|several processes|latents 6|its words are|no public scheduler|leave it away"
    with pytest.raises(Exception, match=said):
        recipe_of(**change)
