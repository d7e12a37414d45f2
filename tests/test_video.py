"""The value every room hands on: it keeps pixels exactly, behaves like a list, refuses what is no video."""

import math
from pathlib import Path

import pytest
import torch

from mutoscope.video import Refusal, Video, resize


def noise(frames: int = 5, height: int = 6, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (frames, height, width, 3), generator=generator, dtype=torch.uint8)


def test_all_256_levels_survive_the_way_through_floats() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3).contiguous()
    video = Video(levels, 12)
    assert torch.equal(Video.from_tensor(video.tensor(), fps=12).frames, levels)


def test_tensor_puts_the_channel_first_and_black_at_minus_one() -> None:
    frames = torch.zeros(2, 4, 6, 3, dtype=torch.uint8)
    frames[1, 2, 3, 1] = 255
    x = Video(frames, 8).tensor()
    assert x.shape == (3, 2, 4, 6) and x.dtype == torch.float32
    assert x[1, 1, 2, 3] == 1 and x.sum() == 1 - (x.numel() - 1)


def test_floats_outside_are_clamped_and_infinities_too() -> None:
    x = torch.tensor([-7.0, 7.0, math.inf]).reshape(3, 1, 1, 1)
    assert Video.from_tensor(x, fps=1).frames.flatten().tolist() == [0, 255, 255]


def test_half_precision_is_taken() -> None:
    grey = Video.from_tensor(torch.zeros(3, 1, 2, 2, dtype=torch.bfloat16), fps=1)
    assert grey.frames.unique().tolist() == [128]


def test_nan_is_refused() -> None:
    x = torch.zeros(3, 1, 2, 2)
    x[0, 0, 0, 0] = math.nan
    with pytest.raises(Refusal, match="NaN"):
        Video.from_tensor(x, fps=8)


@pytest.mark.parametrize("x", [torch.zeros(1, 3, 2, 2), torch.zeros(3, 2, 2), torch.zeros(3, 1, 2, 2).int()])
def test_tensors_of_another_kind_are_refused(x: torch.Tensor) -> None:
    with pytest.raises((Refusal, TypeError)):  # TypeError: the shape check of the test run comes first
        Video.from_tensor(x, fps=8)


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf, "12"])
def test_rates_that_are_no_rate_are_refused(fps: float) -> None:
    with pytest.raises((Refusal, TypeError)):
        Video(noise(), fps)


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 0, 4, 3), (2, 4, 4, 1), (4, 4, 3)])
def test_shapes_that_are_no_video_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises((Refusal, TypeError)):
        Video(torch.zeros(shape, dtype=torch.uint8), 8)


def test_length_size_and_seconds() -> None:
    video = Video(noise(6, 4, 10), 12)
    assert (len(video), video.size, video.seconds) == (6, (10, 4), 0.5)


def test_it_is_a_list_of_pictures() -> None:
    frames = noise()
    video = Video(frames, 8)
    assert torch.equal(video[1], frames[1]) and torch.equal(video[-1], frames[4])
    assert len(list(video)) == 5
    with pytest.raises(IndexError, match="frame 5 of a video of 5 frames"):
        video[5]


def test_slices_are_videos_with_rate_and_notes() -> None:
    frames = noise()
    video = Video(frames, 8, {"prompt": "rain"})
    assert torch.equal(video[1:4].frames, frames[1:4])
    assert torch.equal(video[::-2].frames, frames[[4, 2, 0]])
    assert video[:2].notes == {"prompt": "rain"} and video[:2].fps == 8
    with pytest.raises(Refusal, match="empty"):
        video[3:3]


def test_notes_become_text_and_are_a_copy() -> None:
    notes = {"seed": 7}
    video = Video(noise(), 8, notes)  # type: ignore[arg-type]
    notes["seed"] = 8
    assert video.notes == {"seed": "7"}


def test_equality_is_by_value() -> None:
    assert Video(noise(), 8) == Video(noise(), 8)
    assert Video(noise(), 8) != Video(noise(), 9)
    assert Video(noise(), 8) != Video(255 - noise(), 8)
    assert Video(noise(), 8, {"a": "b"}) != Video(noise(), 8)
    assert Video(noise(), 8) != "a video"
    with pytest.raises(TypeError):
        hash(Video(noise(), 8))


def test_repr_says_what_it_is() -> None:
    assert repr(Video(noise(24, 4, 6), 12)) == "Video(24 frames, 6x4, 12 fps, 2.0 s)"
    assert repr(Video(noise(1), 1)).startswith("Video(1 frame, 8x6")


def test_resizing_keeps_flat_colours_and_their_places() -> None:
    frames = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    frames[:, :, 4:] = 200
    small = Video(frames, 8, {"a": "b"}).resized(4, 2)
    assert small.size == (4, 2) and small.notes == {"a": "b"}
    assert small.frames[:, :, 0].max() < 20 and small.frames[:, :, 3].min() > 180


def test_resizing_smooths_a_checkerboard_instead_of_picking_pixels() -> None:
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 255
    frames = board.to(torch.uint8)[None, :, :, None].expand(1, 16, 16, 3).contiguous()
    inner = resize(frames, width=4, height=4).float()
    assert (inner - 127.5).abs().max() < 12


def test_resizing_to_its_own_size_changes_nothing_and_to_none_is_refused() -> None:
    video = Video(noise(), 8)
    assert video.resized(8, 6) is video
    with pytest.raises(Refusal, match="0x6"):
        video.resized(0, 6)


def test_save_writes_by_the_ending(tmp_path: Path) -> None:
    video = Video(noise(), 8, {"prompt": "snow"})
    assert video.save(tmp_path / "frames") == tmp_path / "frames"
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [f"{i:06d}.png" for i in range(5)]
    with pytest.raises(Refusal, match="cannot write"):
        video.save(tmp_path / "film.exe")
