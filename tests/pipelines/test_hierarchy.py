"""Key frames, what is between them, and every pixel: what stays what it was, and what may be of any size."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import Tensor

from mutoscope.pipelines.hierarchy import Hierarchy
from mutoscope.pipelines.output import film, finish
from mutoscope.pipelines.sheets import sample_sheet
from mutoscope.video import Refusal
from tiny_hierarchy import CHAIN, tiny_hierarchy

PROMPT = "a man walking in the rain"
MODEL = tiny_hierarchy()


@pytest.fixture(scope="module")
def maker() -> Hierarchy:
    return Hierarchy(MODEL, precision="float32", device="cpu")


def latents(maker: Hierarchy, *, count: int | None = None, **settings: object) -> list[Tensor]:
    """The film so far after every step, or after the first `count` of them."""
    return [step.latents for step in islice(maker.steps(maker.request(PROMPT, **settings)), count)]


def test_a_film_has_the_length_size_and_rate_asked_for(maker: Hierarchy):
    made = maker.generate(PROMPT, steps=1)
    assert (len(made), made.size, made.fps) == (13, (16, 16), 12)
    assert made.notes["prompt"] == PROMPT
    odd = maker.generate(PROMPT, steps=1, frames=6, size="22x10")
    assert (len(odd), odd.size) == (6, (22, 10))
    assert len(maker.generate(PROMPT, steps=1, frames=1)) == 1


def test_the_seed_alone_decides(maker: Hierarchy):
    one, same, other = (maker.generate(PROMPT, seed=seed, steps=1, frames=6).frames for seed in (1, 1, 2))
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
    short, long = (latents(maker, steps=2, frames=frames, count=4) for frames in (13, 25))
    assert torch.equal(short[1], long[1])
    changed = replace(MODEL, hierarchy=CHAIN.model_copy(update={"context": 0}))
    alone = latents(Hierarchy(changed, precision="float32", device="cpu"), steps=2, frames=25, count=4)
    assert torch.equal(long[1], alone[1])
    assert not torch.equal(long[3][:, :, 4:6], alone[3][:, :, 4:6])


@pytest.mark.parametrize("change", [{"context_guidance": 1.0}, {"context_noise": 0.3}], ids=str)
def test_context_guidance_and_its_noise_matter_from_the_second_window_on(maker: Hierarchy, change: dict):
    changed = replace(MODEL, hierarchy=CHAIN.model_copy(update=change))
    another = Hierarchy(changed, precision="float32", device="cpu")
    one, other = (latents(m, steps=2, frames=25, count=4) for m in (maker, another))
    assert torch.equal(one[1], other[1])
    assert torch.equal(one[3][:, :, :4], other[3][:, :, :4]) and not torch.equal(one[3], other[3])


def test_spans_made_together_are_those_made_alone(maker: Hierarchy, monkeypatch: pytest.MonkeyPatch):
    together = latents(maker, steps=1, frames=13)[-1]
    monkeypatch.setattr("mutoscope.pipelines.hierarchy.TOGETHER", 1)
    alone = latents(maker, steps=1, frames=13)[-1]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_pictures_come_in_chunks_and_a_longer_film_begins_with_the_shorter(maker: Hierarchy):
    """So memory does not grow: a chunk is all that is held, whatever comes after it."""
    film = latents(maker, steps=1, frames=11)[-1][0]
    request = maker.request(PROMPT, frames=11)
    chunks = list(maker.decode(film, request))
    assert sum(map(len, chunks)) == 11 and max(map(len, chunks)) <= CHAIN.chunk
    first = next(iter(maker.decode(film[:, :8], request)))
    assert torch.equal(first, chunks[0])


def test_a_model_on_its_way_makes_what_it_can():
    keys = Hierarchy(tiny_hierarchy(parts=()), precision="float32", device="cpu")
    small = keys.generate(PROMPT, steps=1, frames=5, size=(8, 8))
    assert (len(small), small.size) == (5, (8, 8))
    between = Hierarchy(tiny_hierarchy(parts=("interpolation",)), precision="float32", device="cpu")
    assert [f.shape[2] for f in latents(between, steps=1, frames=5, size=(8, 8))] == [2, 3, 3, 5, 5]


def test_the_number_of_steps_is_known_beforehand(maker: Hierarchy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mutoscope.pipelines.hierarchy.TOGETHER", 3)  # spans of the longest come in turns
    for frames in (1, 2, 14, 30):
        steps = list(maker.steps(maker.request(PROMPT, steps=1, frames=frames)))
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
    model = tiny_hierarchy(parts=parts)
    short = replace(model, facts=model.facts.model_copy(update={"frames": 5, "steps": 1}))
    path = sample_sheet(short, [PROMPT], path=tmp_path / "sheet.png")
    assert path.stat().st_size > 0


def test_the_preview_is_a_picture_of_the_film(maker: Hierarchy):
    step = next(iter(maker.steps(maker.request(PROMPT, steps=1))))
    assert tuple(step.preview.shape) == (16, 16, 3)


@pytest.mark.parametrize(
    ("fps", "size", "rounds", "scale"),
    [(12.0, (16, 16), 2, 2), (6.0, (8, 8), 1, 1), (3.0, (24, 16), 0, 2), (100.0, (10, 10), 2, 1)],
)
def test_a_film_comes_in_at_the_rate_and_size_it_is_nearest_to(maker: Hierarchy, fps, size, rounds, scale):
    """12 frames a second and 16x16 are the finished film's; a round halves the rate, and decoded is 8x8."""
    near = maker.like(fps=fps, size=size)
    assert (near.rounds, near.scale) == (rounds, scale)
    assert (maker.rounds, maker.scale) == (2, 2)


def test_known_key_frames_stay_and_those_before_the_film_are_not_in_it(maker: Hierarchy):
    request = maker.request(PROMPT, steps=1, frames=13)
    keys = maker.encode(torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8))[None]
    *_, film = (step.latents for step in maker.sampled(request, known=keys, before=1))
    assert film.shape[2] == 13 and torch.equal(film[:, :, [0, 4]], keys[:, :, 1:])
    steps = list(maker.sampled(request, known=keys, before=1))
    assert steps[-1].step == steps[-1].steps


def test_pictures_are_shrunk_before_they_are_encoded(maker: Hierarchy):
    """By the mean of each square, so a film of coarse squares is encoded as the small one."""
    small = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    large = small.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    torch.testing.assert_close(maker.encode(large), maker.like(fps=12, size=(8, 8)).encode(small))


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
