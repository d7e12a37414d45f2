"""One network of a hierarchy: what it is told, and how strongly it follows that."""

from dataclasses import replace

import pytest
import torch

from mutoscope.diffusion.known import Condition, Conditioned, Known
from mutoscope.diffusion.process import Process
from mutoscope.pipelines.request import asked
from mutoscope.pipelines.rung import Knowing, Rung, Telling, framewise_noise
from tiny_hierarchy import tiny_hierarchy

MODEL = tiny_hierarchy()
REQUEST = asked("a man walking in the rain", MODEL.facts)
SHAPE = (2, 4, 3, 4, 4)


def noise(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def rung() -> Rung:
    return Rung(MODEL.unet, MODEL.words, Process(), dtype=torch.float32, device=torch.device("cpu"))


def first_known(film: torch.Tensor) -> Known:
    return Known.frames(film, torch.arange(3).expand(2, -1) < 1)


def made(rung: Rung, known: Known | None, telling: Telling) -> torch.Tensor:
    *_, last = rung.films(noise(0), known, telling, seeds=[1, 2])
    return last.clean


def test_known_frames_come_out_as_they_are(rung: Rung):
    film = noise(1)
    for telling in (Telling(REQUEST, 3), Telling(REQUEST, 3, noise=0.3), Telling(REQUEST, 2, context=2.0)):
        assert torch.equal(made(rung, first_known(film), telling)[:, :, 0], film[:, :, 0])


def test_what_is_known_decides_the_other_frames(rung: Rung):
    one, other = (made(rung, first_known(noise(seed)), Telling(REQUEST, 2)) for seed in (1, 2))
    assert not torch.equal(one[:, :, 1:], other[:, :, 1:])


def test_context_guidance_is_the_published_formula(rung: Rung):
    """unseen + s (seen - unseen), both guided by the words; float32, one step."""
    known, telling = first_known(noise(1)), Telling(REQUEST, 1, guidance=1.0, context=2.5)
    denoiser = rung._guided(known, telling, seeds=[1, 2], like=noise(0))
    condition, t = rung._condition(REQUEST.prompt, count=2), torch.full((2, 3), 0.6)
    guess = denoiser(noise(0), t, condition)
    nothing = Known.nothing(noise(1))
    seen = Knowing(rung.denoiser, known, known.value)(noise(0), t, condition)
    unseen = Knowing(rung.denoiser, nothing, known.value)(noise(0), t, condition)
    torch.testing.assert_close(guess, unseen + 2.5 * (seen - unseen), rtol=1e-5, atol=1e-5)


def test_without_context_there_is_nothing_to_guide_by(rung: Rung):
    nothing = Known.nothing(noise(1))
    assert torch.equal(
        made(rung, nothing, Telling(REQUEST, 2)), made(rung, nothing, Telling(REQUEST, 2, context=3.0))
    )


def test_the_network_is_told_how_noisy_its_context_is(rung: Rung, monkeypatch: pytest.MonkeyPatch):
    told = []

    def heard(self: Conditioned, noisy: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        told.append(condition.known)
        return noisy

    monkeypatch.setattr(Conditioned, "__call__", heard)
    made(rung, first_known(noise(1)), Telling(REQUEST, 1, noise=0.25))
    assert told[0].t.tolist() == [0.25, 0.25]
    assert not torch.equal(told[0].value[:, :, 0], noise(1)[:, :, 0])


def test_a_network_of_pictures_is_told_nothing():
    config = MODEL.unet.config.with_time(None, in_channels=4)
    from mutoscope.models.unet import UNet

    rung = Rung(UNet(config), MODEL.words, Process(), dtype=torch.float32, device=torch.device("cpu"))
    assert not rung.told
    assert made(rung, None, Telling(REQUEST, 1)).shape == SHAPE


def test_noise_of_a_frame_is_that_of_its_number():
    device = torch.device("cpu")
    whole = framewise_noise(3, (2, 4, 5), first=0, count=6, device=device)
    part = framewise_noise(3, (2, 4, 5), first=2, count=3, device=device)
    assert whole.shape == (1, 2, 6, 4, 5) and torch.equal(whole[:, :, 2:5], part)
    assert not torch.equal(whole[:, :, 0], whole[:, :, 1])


def test_a_small_version_is_shown_and_not_put_in_place():
    rung = Rung(MODEL.upscaler, None, Process(), dtype=torch.float32, device=torch.device("cpu"))  # type: ignore[arg-type]
    small = Known.small(torch.ones(1, 3, 2, 4, 4), height=8, width=8)
    knowing = Knowing(rung.denoiser, replace(small), small.value)
    guess = knowing(torch.zeros(1, 3, 2, 8, 8), torch.full((1, 2), 0.5), Condition())
    assert not torch.equal(guess, small.value)
