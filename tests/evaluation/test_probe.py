"""The probe looks at clips of any kind, answers in words, and comes back from the disk as it went."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mutoscope.evaluation.probe import Answers, Probe, ProbeConfig, load_probe, look, save_probe, views
from mutoscope.video import Refusal, Video

WORDS = {"action": ("walking", "running", "waving"), "light": ("day", "night")}
TINY = ProbeConfig(words=WORDS, frames=4, size=(24, 16), fps=12.0, widths=(4, 4, 8, 8), features=6)


def probe(seed: int = 0) -> Probe:
    torch.manual_seed(seed)
    return Probe(TINY)


def clip(f: int = 4, w: int = 24, h: int = 16, *, seed: int = 0) -> Tensor:
    return torch.rand(3, f, h, w, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def numbered(f: int) -> Tensor:
    """A clip whose frames are as bright as their number."""
    return torch.arange(f).float()[None, :, None, None].expand(3, f, 16, 24)


def seen(pixels: Tensor, fps: float = 12.0) -> list[list[int]]:
    """The frame numbers that every view shows."""
    return views(pixels, fps=fps, config=TINY)[:, 0, :, 0, 0].int().tolist()


def test_an_attribute_of_one_word_is_no_question() -> None:
    config = ProbeConfig.of({**WORDS, "camera": ("still",)}, frames=5)
    assert list(config.words) == ["action", "light"] and config.frames == 5


def test_forward_gives_logits_by_attribute_and_features() -> None:
    logits, features = probe()(torch.stack([clip(), clip(seed=1)]))
    assert {name: tuple(value.shape) for name, value in logits.items()} == {"action": (2, 3), "light": (2, 2)}
    assert features.shape == (2, 6)


def test_the_shipped_size_is_small() -> None:
    weights = sum(weight.numel() for weight in Probe(ProbeConfig(words=WORDS)).parameters())
    assert 0.5e6 < weights < 1e6  # at two bytes each: one to two megabytes


def test_a_clip_of_the_views_length_is_one_view_as_it_is() -> None:
    pixels = clip()
    assert torch.equal(views(pixels, fps=12, config=TINY), pixels[None])


def test_a_longer_clip_is_seen_from_its_first_frame_to_its_last() -> None:
    assert seen(numbered(8)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert seen(numbered(9)) == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert seen(numbered(5)) == [[0, 1, 2, 3]]


def test_a_shorter_clip_holds_its_last_frame() -> None:
    assert seen(numbered(2)) == [[0, 1, 1, 1]]
    assert seen(numbered(1)) == [[0, 0, 0, 0]]


def test_another_rate_shows_the_same_moments() -> None:
    assert seen(numbered(8), fps=24) == [[0, 2, 4, 6]]
    assert seen(numbered(2), fps=3) == [[0, 0, 0, 1]]  # the nearest, and of two as near the first
    assert seen(numbered(4), fps=12.0000000001) == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("w", "h"), [(48, 32), (24, 17), (7, 5)])
def test_any_size_is_brought_to_the_views(w: int, h: int) -> None:
    flat = torch.full((3, 4, h, w), 0.25)
    shown = views(flat, fps=12, config=TINY)
    assert shown.shape == (1, 3, 4, 16, 24)
    torch.testing.assert_close(shown, torch.full_like(shown, 0.25))


def test_probabilities_sum_to_one_and_words_are_the_likeliest() -> None:
    answers = look(probe(), torch.stack([clip(8), clip(8, seed=1)]))
    for name, chances in answers.probabilities.items():
        torch.testing.assert_close(chances.sum(1), torch.ones(2))
        for k, told in enumerate(answers.words()):
            assert told[name] == WORDS[name][int(chances[k].argmax())]


def test_an_answer_depends_on_its_own_clip_alone() -> None:
    """Clips of different lengths and sizes together, across a batch's border, answer as each alone."""
    network = probe()
    many = [
        Video.from_tensor(clip(f, w, seed=f), fps=12)
        for f, w in zip(range(1, 12), range(20, 31), strict=True)
    ]
    together = look(network, many)
    alone = Answers.join([look(network, [one]) for one in many])
    torch.testing.assert_close(together.features, alone.features, rtol=1e-4, atol=1e-5)
    assert together.words() == alone.words()


def test_a_video_brings_its_own_rate() -> None:
    video = Video.from_tensor(clip(8), fps=24)
    answers = look(probe(), [video])
    torch.testing.assert_close(answers.features, look(probe(), video.tensor()[None], fps=24.0).features)
    assert not torch.allclose(answers.features, look(probe(), video.tensor()[None], fps=12.0).features)


def test_order_in_time_is_seen() -> None:
    """Left from right and walking from standing need the order of frames, which their mean would lose."""
    forwards = clip()
    one, other = (look(probe(), pixels[None]).features for pixels in (forwards, forwards.flip(1)))
    assert not torch.allclose(one, other, atol=1e-4)


def test_no_clips_are_refused() -> None:
    with pytest.raises(Refusal, match="at least one"):
        look(probe(), [])


def test_it_comes_back_from_the_disk_within_bfloat16(tmp_path: Path) -> None:
    network = probe()
    folder = save_probe(network, tmp_path / "probe")
    again = load_probe(folder)
    assert again.config == TINY
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    for name, weight in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight.bfloat16().float())
    torch.testing.assert_close(
        look(again, clip()[None]).features, look(network, clip()[None]).features, rtol=0.1, atol=0.05
    )


def test_a_folder_without_a_probe_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=f"no probe in {tmp_path}"):
        load_probe(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", "{"), ("config.json", '{"words": {}, "colour": 1}'), ("model.safetensors", "short")],
)
def test_a_broken_probe_is_refused_in_one_line(tmp_path: Path, name: str, content: str) -> None:
    (save_probe(probe(), tmp_path) / name).write_text(content)
    with pytest.raises(Refusal, match="cannot be read") as caught:
        load_probe(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_probe(probe(), tmp_path)
    wider = TINY.model_copy(update={"features": 7})
    (tmp_path / "config.json").write_text(wider.model_dump_json())
    with pytest.raises(Refusal, match="cannot be read"):
        load_probe(tmp_path)
