"""The laws of the U-Net. That it equals diffusers' three stands in tests/checkpoints/."""

import os
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from mutoscope.models.text import Text
from mutoscope.models.unet import UNet, UNetConfig, inflate
from mutoscope.models.unet_config import MODELSCOPE, SVD, TimeConfig, align, vdm
from mutoscope.video import Refusal
from tiny import stirred

IMAGE = UNetConfig(
    channels=(8, 16), attention=(False, True), heads=(2, 2), groups=4, layers=1, text_dim=12, in_channels=3,
    out_channels=3,
)  # fmt: skip
TIMES = {
    "image": None,
    "vdm": vdm(levels=(True, True)),
    "vdm rotary, convolutions": vdm(positions="rotary", convs=2),
    "align": align(),
    "modelscope": MODELSCOPE,
    "svd": SVD,
}
kinds = pytest.mark.parametrize("time", TIMES.values(), ids=TIMES.keys())


def model(time: TimeConfig | None, *, dtype: torch.dtype = torch.float64, **changes: object) -> UNet:
    torch.manual_seed(0)
    net = UNet(IMAGE.model_copy(update={"time": time, **changes}))
    stirred(net)
    return net.to(dtype).eval()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def times(*shape: int) -> Tensor:
    return 999 * torch.rand(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


NOISY, TEXT = random(2, 3, 3, 4, 6), random(2, 5, 12, seed=1)


@kinds
def test_a_batch_of_n_is_n_of_one(time: TimeConfig | None) -> None:
    net, t = model(time), times(2, 3)
    together = net(NOISY, t, text=TEXT)
    assert together.shape == NOISY.shape and together.std() > 0.1
    for row in range(2):
        here = slice(row, row + 1)
        torch.testing.assert_close(
            net(NOISY[here], t[here], text=TEXT[here]), together[here], rtol=0, atol=1e-11
        )


@kinds
def test_one_time_for_all_is_that_time_for_each(time: TimeConfig | None) -> None:
    net, t = model(time), times(2, 1)
    one, each = net(NOISY, t, text=TEXT), net(NOISY, t.expand(-1, 3), text=TEXT)
    torch.testing.assert_close(one, each, rtol=0, atol=1e-11)
    assert not torch.allclose(net(NOISY, times(2, 3), text=TEXT), one, atol=1e-3)


@kinds
def test_frames_see_one_another_unless_it_is_an_image_model(time: TimeConfig | None) -> None:
    net, t = model(time), times(2, 1)
    other = NOISY.clone()
    other[:, :, 2] += 1
    same = torch.allclose(net(NOISY, t, text=TEXT)[:, :, 0], net(other, t, text=TEXT)[:, :, 0], atol=1e-9)
    assert same == (time is None)


@kinds
def test_checkpointing_gives_the_same_gradients(time: TimeConfig | None) -> None:
    net, t = model(time), times(2, 1)
    gradients = []
    for on in (False, True):
        net.checkpointing = on
        loss = net(NOISY, t, text=TEXT).square().sum()
        gradients.append(torch.autograd.grad(loss, list(net.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(grad.norm() > 0 for grad in gradients[0])


@kinds
def test_starts_at_zero_and_learns(time: TimeConfig | None) -> None:
    torch.manual_seed(0)
    net = UNet(IMAGE.model_copy(update={"time": time}))
    noisy, t, text, target = (x.float() for x in (NOISY, times(2, 3), TEXT, random(2, 3, 3, 4, 6, seed=3)))
    assert net(noisy, t, text=text).abs().max() == 0
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        loss = (net(noisy, t, text=text) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("channels", [1, 2])
def test_pixels_of_few_channels(channels: int) -> None:
    """One channel has no order of its own in memory, and must still leave in that of all others."""
    net = model(vdm(), in_channels=channels, out_channels=channels, text_dim=None)
    assert net(random(2, channels, 3, 4, 4), times(2, 1)).shape == (2, channels, 3, 4, 4)


@kinds
def test_patches_are_pixels_side_by_side_in_channels(time: TimeConfig | None) -> None:
    """2 x 2 pixels of 3 channels are one of 12 to the network, and unfold in the same order."""
    patched, plain = model(time, patch_size=2), model(time, in_channels=12, out_channels=12)
    plain.load_state_dict(patched.state_dict())
    films, t = random(2, 3, 3, 8, 12), times(2, 3)
    said = plain(pixel_unshuffle(films.movedim(1, 2), 2).movedim(1, 2), t, text=TEXT)
    expected = pixel_shuffle(said.movedim(1, 2), 2).movedim(1, 2)
    torch.testing.assert_close(patched(films, t, text=TEXT), expected, rtol=0, atol=1e-11)
    with pytest.raises(ValueError, match="8x10 do not divide by 4"):
        patched(films[..., :10], t, text=TEXT)


class TestFinish:
    """The convolutions of pixels at the end."""

    def test_they_see_three_pixels_far_in_their_frame_and_their_time(self) -> None:
        net = model(vdm(), finish=6, patch_size=2)
        for weight in net.last.parameters():
            torch.nn.init.zeros_(weight)  # the network itself says nothing
        films, t = random(1, 3, 2, 16, 16), times(1, 2)
        other, later = films.clone(), t.clone()
        other[0, 1, 1, 8, 6] += 1
        later[0, 0] += 300
        said = net(films, t, text=TEXT[:1])
        moved = ((net(other, t, text=TEXT[:1]) - said).abs().amax(dim=1) > 1e-12).nonzero()
        assert moved.amin(dim=0).tolist() == [0, 1, 5, 3] and moved.amax(dim=0).tolist() == [0, 1, 11, 9]
        at = (net(films, later, text=TEXT[:1]) - said).abs().amax(dim=(1, 3, 4)) > 1e-9
        assert at.tolist() == [[True, False]]

    @pytest.mark.parametrize("told", [slice(0, 3), slice(3, 5), slice(5, 8)], ids=["said", "hints", "noisy"])
    def test_they_see_what_the_network_says_and_more_and_the_noisy_frame(self, told: slice) -> None:
        net, other = model(vdm(), finish=8), model(vdm(), finish=8)
        torch.nn.init.zeros_(other.finish.first.weight[:, told])  # type: ignore[union-attr]
        t = times(2, 1)
        assert (net(NOISY, t, text=TEXT) - other(NOISY, t, text=TEXT)).abs().mean() > 1e-3


def test_a_fresh_network_says_nothing_yet() -> None:
    fresh = UNet(IMAGE.model_copy(update={"patch_size": 2, "finish": 4}))
    assert fresh(random(1, 3, 2, 4, 4).float(), torch.rand(1, 2)).abs().max() == 0


class TestText:
    @kinds
    def test_a_text_is_its_rows_and_zero_rows(self, time: TimeConfig | None) -> None:
        net, t = model(time), times(2, 1)
        mask = torch.arange(5) < torch.tensor([[3], [5]])
        text = Text(TEXT, mask, padded_to=9)
        torch.testing.assert_close(
            net(NOISY, t, text=text), net(NOISY, t, text=text.explicit()), rtol=0, atol=1e-6
        )

    def test_none_is_the_empty_text(self) -> None:
        net, t = model(SVD), times(2, 1)
        empty = Text(TEXT, torch.zeros(2, 5, dtype=torch.bool), padded_to=9)
        torch.testing.assert_close(net(NOISY, t), net(NOISY, t, text=empty), rtol=0, atol=1e-11)

    def test_words_matter(self) -> None:
        net, t = model(vdm()), times(2, 1)
        assert not torch.allclose(net(NOISY, t, text=TEXT), net(NOISY, t, text=TEXT.flip(-1)), atol=1e-3)


class TestLabels:
    def test_labels_matter_and_start_silent(self) -> None:
        one, other = torch.tensor([[6.0, 127.0, 0.02]] * 2), torch.tensor([[6.0, 20.0, 0.02]] * 2)
        fresh, net = UNet(IMAGE.model_copy(update={"labels": 3, "time": SVD})), model(SVD, labels=3)
        assert net.labels is not None
        assert not torch.allclose(
            net(NOISY, times(2, 1), text=TEXT, labels=one), net(NOISY, times(2, 1), text=TEXT, labels=other)
        )
        assert fresh.labels is not None and fresh.labels(one).abs().max() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noisy": torch.zeros(1, 3, 2, 5, 4)}, "5x4 do not divide by 2"),
        ({"t": torch.zeros(1, 3)}, r"times have shape \(1, 3\)"),
        ({"text": torch.zeros(1, 2, 12)}, "text_dim is None"),
        ({"labels": torch.zeros(1, 2)}, "2 labels are given, and the model wants 0"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Tensor], message: str) -> None:
    net = model(vdm(), dtype=torch.float32, text_dim=None)
    given = {"noisy": torch.zeros(1, 3, 2, 4, 4), "t": torch.zeros(1, 1)} | change
    with pytest.raises(ValueError, match=message):
        net(given.pop("noisy"), given.pop("t"), **given)


@pytest.mark.parametrize(
    "wrong",
    [
        {"heads": (2,)},
        {"groups": 3},
        {"heads": (2, 3)},
        {"stage_eps": (1e-5,)},
        {"depth": 0},
        {"patch_size": 0},
        {"width": 3},
        {"time": vdm(levels=(True,))},
        {"time": SVD.model_copy(update={"levels": (True, True)})},
    ],
)
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        UNetConfig.model_validate(IMAGE.model_dump() | wrong)
    with pytest.raises(ValidationError):
        TimeConfig(place="wrapped", merge="alpha")


class TestInflate:
    @pytest.mark.parametrize("time", [align(), align(positions="rotary", convs=0), SVD, MODELSCOPE, vdm()])
    def test_starts_as_the_image_model(self, time: TimeConfig) -> None:
        image = model(None)
        film = inflate(image, image.config.with_time(time, labels=2)).double().eval()
        labels = torch.tensor([[6.0, 127.0]] * 2)
        out = film(NOISY, times(2, 3), text=TEXT, labels=labels)
        assert torch.equal(out, model(None)(NOISY, times(2, 3), text=TEXT))

    def test_its_new_weights_are_the_temporal_ones(self) -> None:
        image = model(None)
        film = inflate(image, image.config.with_time(align(), labels=2))
        new = {name for name, _ in film.named_parameters()} - {name for name, _ in image.named_parameters()}
        temporal = {id(p) for p in film.temporal_parameters()}
        assert {name for name, p in film.named_parameters() if id(p) in temporal} == new
        assert len(film.temporal_parameters()) == len(new) and not image.temporal_parameters()

    @pytest.mark.parametrize("finish", [0, 4])
    def test_more_input_channels_start_silent(self, finish: int) -> None:
        image = model(None, finish=finish)
        film = inflate(image, image.config.with_time(align(), in_channels=7)).double().eval()
        more = torch.cat([NOISY, random(2, 4, 3, 4, 6, seed=8)], dim=1)
        torch.testing.assert_close(
            film(more, times(2, 1), text=TEXT), image(NOISY, times(2, 1), text=TEXT), rtol=0, atol=1e-12
        )

    def test_another_network_is_refused(self) -> None:
        image = model(None)
        with pytest.raises(Refusal, match=r"with_time"):
            inflate(image, image.config.model_copy(update={"text_dim": 10}))


@kinds
@pytest.mark.parametrize("places", [[1, 3], [0, 1]], ids=["pictures in between", "pictures first"])
def test_a_text_for_every_frame_is_read_by_that_frame_alone(
    time: TimeConfig | None, places: list[int]
) -> None:
    """Equal texts are one text for the sample; another text for one picture changes that picture alone."""
    net, noisy, t = model(time), random(2, 3, 5, 4, 6), times(2, 5)
    images = torch.zeros(2, 5, dtype=torch.bool)
    images[:, places] = True
    whole = net(noisy, t, text=TEXT, images=images)
    each = TEXT.repeat_interleave(5, dim=0)
    torch.testing.assert_close(net(noisy, t, text=each, images=images), whole, rtol=0, atol=1e-11)
    each[places[1]] += 1.0
    moved = (net(noisy, t, text=each, images=images) - whole).abs().amax(dim=(1, 3, 4)) > 1e-9
    assert moved.nonzero().tolist() == [[0, places[1]]]


COMPILED = """
from functools import partialmethod
from itertools import product
import torch
from torch import nn
from mutoscope.models.unet import UNet, UNetConfig
from mutoscope.models.unet_config import MODELSCOPE, SVD, vdm

nn.Module.compile = partialmethod(nn.Module.compile, backend="aot_eager", fullgraph=True)
noisy, text, t = torch.randn(2, 4, 5, 4, 4), torch.randn(2, 3, 16), torch.rand(2, 5)
pictures = torch.tensor([[False, False, False, True, True]]).expand(2, -1)
for time, small in product((MODELSCOPE, SVD, vdm()), (False, True)):
    net = UNet(UNetConfig(channels=(8, 16), layers=1, attention=(True, True), heads=(2, 2), groups=4,
                          time=time, text_dim=16))
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.2)
    found = []
    for _ in range(2):
        for images in (None, pictures):
            said = net(noisy, t, text=text, images=images)
            found.append([said, *torch.autograd.grad(said.square().mean(), list(net.parameters()))])
        net.compile_blocks(small=small)
    for plain, compiled in zip(found[:2], found[2:]):
        for a, b in zip(plain, compiled):
            assert (a - b).norm() <= 1e-4 * a.norm() + 1e-7, (a - b).norm() / a.norm()
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 8
"""


@pytest.mark.slow
def test_compiled_parts_have_no_breaks_and_give_the_same() -> None:
    """With more forms than a compiler keeps unasked. (In this process the checks of shapes break graphs.)"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
