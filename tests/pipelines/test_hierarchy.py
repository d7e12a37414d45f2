"""Key frames, what is between them, and every pixel: what stays what it was, and what may be of any size."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mutoscope.pipelines.hierarchy import Hierarchy, faded
from mutoscope.pipelines.output import film, finish
from mutoscope.pipelines.sheets import sample_sheet
from mutoscope.video import Refusal, Video
from tiny_hierarchy import CHAIN, tiny_hierarchy

PROMPT = "a man walking in the rain"
MODEL = tiny_hierarchy()


@pytest.fixture(scope="module")
def maker() -> Hierarchy:
    return Hierarchy(MODEL, precision="float32", device="cpu")


def latents(maker: Hierarchy, **settings: object) -> list[Tensor]:
    """The film so far after every step."""
    return [step.latents for step in maker.steps(maker.request(PROMPT, **settings))]


def test_a_film_has_the_length_size_and_rate_asked_for(maker: Hierarchy):
    made = maker.generate(PROMPT, steps=2)
    assert (len(made), made.size, made.fps) == (13, (16, 16), 12)
    assert made.notes["prompt"] == PROMPT
    odd = maker.generate(PROMPT, steps=1, frames=6, size="22x10")
    assert (len(odd), odd.size) == (6, (22, 10))
    assert len(maker.generate(PROMPT, steps=1, frames=1)) == 1


def test_the_seed_alone_decides(maker: Hierarchy):
    one, same, other = (maker.generate(PROMPT, seed=seed, steps=2).frames for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_words_change_the_film(maker: Hierarchy):
    first, second = (latents_of(maker, prompt) for prompt in (PROMPT, "a woman in a red coat"))
    assert not torch.equal(first, second)


def latents_of(maker: Hierarchy, prompt: str) -> Tensor:
    return [step.latents for step in maker.steps(maker.request(prompt, steps=1, frames=1))][-1]


def test_frames_that_are_known_stay_to_the_bit(maker: Hierarchy):
    """Every round of interpolation keeps what it was given, at its place."""
    films = latents(maker, steps=2, frames=17)
    keys = films[3]  # two windows of two steps: 4 key frames and one more
    assert [f.shape[2] for f in films] == [4, 4, 5, 5, 9, 9, 17, 17]
    assert torch.equal(films[5][:, :, ::2], keys)
    assert torch.equal(films[7][:, :, ::2], films[5])


def test_a_window_of_key_frames_begins_with_the_last_of_the_one_before(maker: Hierarchy):
    """A longer film begins with the shorter one's key frames, and they decide what follows."""
    short, long = latents(maker, steps=2, frames=13), latents(maker, steps=2, frames=25)
    assert torch.equal(short[1], long[1])
    changed = replace(MODEL, hierarchy=CHAIN.model_copy(update={"context": 0}))
    alone = latents(Hierarchy(changed, precision="float32", device="cpu"), steps=2, frames=25)
    assert torch.equal(long[1], alone[1])
    assert not torch.equal(long[3][:, :, 4:6], alone[3][:, :, 4:6])


@pytest.mark.parametrize("change", [{"context_guidance": 1.0}, {"context_noise": 0.3}], ids=str)
def test_context_guidance_and_its_noise_matter_from_the_second_window_on(maker: Hierarchy, change: dict):
    changed = replace(MODEL, hierarchy=CHAIN.model_copy(update=change))
    one, other = (
        latents(m, steps=2, frames=25) for m in (maker, Hierarchy(changed, precision="float32", device="cpu"))
    )
    assert torch.equal(one[1], other[1])
    assert torch.equal(one[3][:, :, :4], other[3][:, :, :4]) and not torch.equal(one[3], other[3])


def test_spans_made_together_are_those_made_alone(maker: Hierarchy, monkeypatch: pytest.MonkeyPatch):
    together = latents(maker, steps=1, frames=33)[-1]
    monkeypatch.setattr("mutoscope.pipelines.hierarchy.TOGETHER", 1)
    alone = latents(maker, steps=1, frames=33)[-1]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_pictures_come_in_chunks_and_a_longer_film_begins_with_the_shorter(maker: Hierarchy):
    """So memory does not grow: a chunk is all that is held, whatever comes after it."""
    film = latents(maker, steps=1, frames=25)[-1][0]
    request = maker.request(PROMPT, frames=25)
    chunks = list(maker.decode(film, request))
    assert sum(map(len, chunks)) == 25 and max(map(len, chunks)) <= CHAIN.chunk
    first = next(iter(maker.decode(film[:, :10], request)))
    assert torch.equal(first, chunks[0])


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 6, 11])
@pytest.mark.parametrize("overlap", [0, 1, 3])
def test_chunks_of_one_film_fade_to_that_film(frames: int, overlap: int):
    film = torch.randn(1, 2, frames, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chunks = [film[:, :, k : k + 4] for k in range(0, max(1, frames - overlap), 4 - overlap)]
    made = torch.cat(list(faded(iter(chunks), overlap)), dim=2)
    torch.testing.assert_close(made, film, rtol=0, atol=1e-15)


def test_a_model_on_its_way_makes_what_it_can():
    keys = Hierarchy(tiny_hierarchy(parts=()), precision="float32", device="cpu")
    small = keys.generate(PROMPT, steps=1, frames=5, size=(8, 8))
    assert (len(small), small.size) == (5, (8, 8))
    between = Hierarchy(tiny_hierarchy(parts=("interpolation",)), precision="float32", device="cpu")
    assert [f.shape[2] for f in latents(between, steps=1, frames=5, size=(8, 8))] == [2, 3, 3, 5, 5]


def test_the_number_of_steps_is_known_beforehand(maker: Hierarchy):
    for settings in ({"frames": 1}, {"frames": 2}, {"frames": 14}, {"frames": 150}):
        steps = list(maker.steps(maker.request(PROMPT, steps=1, **settings)))
        assert [step.step for step in steps] == list(range(1, steps[0].steps + 1))


def test_a_film_is_written_and_can_be_finished_from_its_latents(maker: Hierarchy, tmp_path):
    request = maker.request(PROMPT, frames=5, steps=1)
    for _ in film(maker, request, output=tmp_path / "film.mp4"):
        pass
    going = film(maker, request, output=tmp_path / "other.mp4")
    kept = next(event.latents for event in going if event.latents is not None)
    going.close()
    for _ in finish(maker, kept, output=tmp_path / "other.mp4"):
        pass
    assert (tmp_path / "film.mp4").read_bytes() == (tmp_path / "other.mp4").read_bytes()


@pytest.mark.parametrize("parts", [(), ("interpolation", "upscaler")], ids=str)
def test_a_sheet_shows_films_of_the_prompts(parts: tuple[str, ...], tmp_path):
    path = sample_sheet(tiny_hierarchy(parts=parts), [PROMPT], path=tmp_path / "sheet.png")
    assert path.stat().st_size > 0


def test_the_preview_is_a_picture_of_the_film(maker: Hierarchy):
    step = next(iter(maker.steps(maker.request(PROMPT, steps=1))))
    assert tuple(step.preview.shape) == (16, 16, 3)


def clip(frames: int, *, width: int, height: int) -> Video:
    generator = torch.Generator().manual_seed(5)
    shape = (frames, height, width, 3)
    return Video(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), fps=3.0)


def test_a_film_gets_finer_around_its_own_pictures(maker: Hierarchy):
    film = clip(6, width=9, height=10)
    one, same, other = (maker.finer(film, prompt=PROMPT, seed=seed) for seed in (1, 1, 2))
    assert (len(one), one.size, one.fps) == (11, (9, 10), 6.0)
    assert torch.equal(one.frames[::2], film.frames)
    assert torch.equal(one.frames, same.frames) and not torch.equal(one.frames, other.frames)


def test_a_film_gets_larger_whatever_its_size(maker: Hierarchy):
    film = clip(7, width=11, height=6)
    one, other = (maker.larger(film, prompt=PROMPT, seed=seed) for seed in (1, 2))
    assert (len(one), one.size, one.fps) == (7, (22, 12), 3.0)
    assert not torch.equal(one.frames, other.frames)
    assert torch.equal(maker.larger(film[:4], prompt=PROMPT, seed=1).frames[:2], one.frames[:2])


def test_parts_that_are_not_there_are_named():
    keys = Hierarchy(tiny_hierarchy(parts=()), precision="float32", device="cpu")
    with pytest.raises(Refusal, match="interpolation_unet"):
        keys.finer(clip(3, width=8, height=8), prompt=PROMPT)
    with pytest.raises(Refusal, match="upscaler_unet"):
        keys.larger(clip(3, width=8, height=8), prompt=PROMPT)


@pytest.mark.parametrize("settings", [{"plan": "pyramid"}, {"window": 4}, {"smoothness": 2.0}], ids=str)
def test_other_ways_of_sampling_are_refused(maker: Hierarchy, settings: dict):
    with pytest.raises(Refusal, match=next(iter(settings))):
        maker.request(PROMPT, **settings)


def test_latents_with_nan_are_refused(maker: Hierarchy):
    with pytest.raises(Refusal, match="NaN"):
        next(maker.decode(torch.full((4, 2, 4, 4), torch.nan), maker.request(PROMPT)))


def test_films_together_are_refused(maker: Hierarchy):
    with pytest.raises(Refusal, match="one film at a time"):
        next(maker.steps(maker.request(PROMPT), maker.request(PROMPT, seed=1)))
