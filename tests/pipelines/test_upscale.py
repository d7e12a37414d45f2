"""A larger film of a tiny random model: whatever it invents, shrunk again it is the small one."""

import pytest
import torch

from mutoscope.diffusion.guidance import Guided
from mutoscope.diffusion.noise import draw
from mutoscope.pipelines import Pipeline
from mutoscope.pipelines.revision import revise
from mutoscope.pipelines.tasks import Span
from mutoscope.pipelines.upscale import Upscale, scaled
from mutoscope.video import Refusal, Video
from tiny import tiny_model

WORDS = "a man walking in the rain"
QUICK = {"prompt": WORDS, "steps": 3, "guidance": 1.0}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(tiny_model(), precision="float32", device="cpu")


def clip(frames: int, size: tuple[int, int] = (16, 16)) -> Video:
    """Soft blobs, no level near the ends of the range."""
    generator = torch.Generator().manual_seed(frames)
    coarse = 60 + 130 * torch.rand(frames, 4, 4, 3, generator=generator)
    return Video(scaled(coarse, size).clamp(40, 215).round().to(torch.uint8), 12.0)


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (33, 17)])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_the_film_has_the_size_asked_for(pipeline, frames, size):
    film = clip(frames, (16, 12))
    larger = revise(pipeline, Upscale(size=size), films=film, **QUICK)
    assert (len(larger), larger.size, larger.fps) == (frames, size, film.fps)


def test_shrunk_again_it_is_nearly_the_small_film(pipeline):
    """Within a few levels, though the random autoencoder gives back nothing of what it is shown."""
    film = clip(5)
    larger = revise(pipeline, Upscale(size=(32, 32), strength=0.8), films=film, **QUICK)
    free = pipeline.generate(WORDS, frames=5)
    near, far = ((scaled(one.frames.float(), film.size) - film.frames).abs().mean() for one in (larger, free))
    assert near < 10 and far > 3 * near


def test_agreement_brings_any_pictures_nearer():
    film, task = clip(3), Upscale(size=(32, 32))
    pictures = 127 + 20 * draw([0], (3, 3, 32, 32))[0].permute(1, 2, 3, 0)

    def off(pictures: torch.Tensor) -> float:
        return (scaled(pictures.float(), film.size) - film.frames.float()).abs().mean().item()

    once = task.agree(pictures, film, span=Span(0, 2))
    assert off(once) < 0.35 * off(pictures)
    assert off(task.agree(once.float(), film, span=Span(0, 2))) < off(once)


def test_seed_and_strength_change_it(pipeline):
    film = clip(3)
    usual = revise(pipeline, Upscale(size=(32, 32), strength=0.6), films=film, **QUICK)
    for strength, settings in [(0.9, {}), (0.6, {"seed": 4})]:
        other = revise(pipeline, Upscale(size=(32, 32), strength=strength), films=film, **QUICK | settings)
        assert not torch.equal(usual.frames, other.frames)


def test_tiles_are_no_larger_than_the_models_own_films(pipeline, monkeypatch):
    """A 64x48 film by a model of 32x32: tiles of 4x4 latents, and every step sees all of the film."""
    shown, real = [], pipeline.denoiser

    class Watched(Guided):
        def __call__(self, noisy, t, condition):
            shown.append(tuple(noisy.shape[3:]))
            return self.denoiser(noisy, t, condition)

    monkeypatch.setattr(pipeline, "denoiser", lambda request: Watched(real(request)))
    revise(pipeline, Upscale(size=(64, 48)), films=clip(1, (32, 24)), **QUICK | {"steps": 1})
    assert set(shown) == {(4, 4)}
    assert len(shown) == 2 * 3  # rows 0 and 2 of 6, columns 0, 2 and 4 of 8


@pytest.mark.parametrize("size", [(16, 16), (8, 8), (32, 8)])
def test_what_is_no_larger_is_refused(pipeline, size):
    with pytest.raises(Refusal, match="a larger one can be made"):
        revise(pipeline, Upscale(size=size), films=clip(1), **QUICK)


def test_a_later_span_opens_with_the_last_picture_made(pipeline):
    task, film = Upscale(size=(32, 32)), clip(12)
    request = pipeline.request(WORDS, steps=3, guidance=1.0, **task.shape([film]))
    assert [(span.first, span.last) for span in task.spans(request, 9)] == [(0, 8), (8, 11)]
    pictures = [p.pictures for p in task.parts(pipeline, [film], request) if p.pictures is not None]
    assert [len(part) for part in pictures] == [9, 3]
