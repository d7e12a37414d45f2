"""Where every picture of a contact sheet stands, which frames it shows, and what a .png file gets."""

from pathlib import Path

import pytest
import torch

from mutoscope.media import contact_sheet, read_notes, read_video, write_video
from mutoscope.video import Refusal, Video

GAP = 2


def cell(
    sheet: torch.Tensor, *, top: int, column: int, size: tuple[int, int], cell_width: int
) -> torch.Tensor:
    left = GAP + column * (cell_width + GAP)
    return sheet[top : top + size[1], left : left + size[0]]


def without(sheet: torch.Tensor, *, tops: list[int], columns: int, size: tuple[int, int]) -> torch.Tensor:
    """The sheet's paper: everything but the cells, which are blanked."""
    paper = sheet.clone()
    for top in tops:
        for column in range(columns):
            cell(paper, top=top, column=column, size=size, cell_width=size[0])[:] = 255
    return paper


def test_one_video_is_one_row(drawn) -> None:
    video = drawn(frames=3)
    sheet = contact_sheet([video])
    assert sheet.dtype == torch.uint8 and sheet.shape == (24 + 2 * GAP, 3 * (32 + GAP) + GAP, 3)
    for column in range(3):
        shown = cell(sheet, top=GAP, column=column, size=(32, 24), cell_width=32)
        assert torch.equal(shown, video[column])
    assert (without(sheet, tops=[GAP], columns=3, size=(32, 24)) == 255).all()


def test_every_video_has_its_row(drawn) -> None:
    videos = [drawn(frames=4), Video(255 - drawn(frames=4).frames, 12)]
    sheet = contact_sheet(videos)
    tops = [GAP, 24 + 2 * GAP]
    assert sheet.shape == (2 * (24 + GAP) + GAP, 4 * (32 + GAP) + GAP, 3)
    for top, video in zip(tops, videos, strict=True):
        for column in range(4):
            shown = cell(sheet, top=top, column=column, size=(32, 24), cell_width=32)
            assert torch.equal(shown, video[column])
    assert (without(sheet, tops=tops, columns=4, size=(32, 24)) == 255).all()


@pytest.mark.parametrize(
    ("frames", "columns", "shown"),
    [(9, 3, [0, 4, 8]), (6, 2, [0, 5]), (5, 1, [0]), (4, 8, [0, 1, 2, 3]), (15, 8, list(range(0, 15, 2)))],
)
def test_frames_stand_at_even_distances(drawn, frames: int, columns: int, shown: list[int]) -> None:
    video = drawn(frames=frames)
    sheet = contact_sheet([video], columns=columns)
    assert sheet.shape[1] == len(shown) * (32 + GAP) + GAP
    for column, index in enumerate(shown):
        picture = cell(sheet, top=GAP, column=column, size=(32, 24), cell_width=32)
        assert torch.equal(picture, video[index])


def test_eight_columns_unless_told_otherwise(drawn) -> None:
    assert contact_sheet([drawn(frames=30)]).shape[1] == 8 * (32 + GAP) + GAP


def test_sizes_and_lengths_may_differ(drawn) -> None:
    small, large = drawn(frames=2, width=16, height=12), drawn(frames=3, width=40, height=20)
    sheet = contact_sheet([small, large])
    assert sheet.shape == (12 + 20 + 3 * GAP, 3 * (40 + GAP) + GAP, 3)
    second = cell(sheet, top=GAP, column=1, size=(16, 12), cell_width=40)
    assert torch.equal(second, small[1])
    assert torch.equal(cell(sheet, top=12 + 2 * GAP, column=2, size=(40, 20), cell_width=40), large[2])
    assert (sheet[GAP : GAP + 12, GAP + 42 + 16 :] == 255).all()  # paper right of the small one's last


def test_captions_stand_above_their_rows(drawn) -> None:
    video = drawn(frames=4)
    plain, told = contact_sheet([video, video]), contact_sheet([video, video], captions=["rain", "snow"])
    height = (told.shape[0] - plain.shape[0]) // 2
    assert height > 8 and told.shape[1] == plain.shape[1]
    assert torch.equal(told[GAP + height : GAP + height + 24], plain[GAP : GAP + 24])
    captions = told[GAP : GAP + height], told[2 * GAP + 24 + height : 2 * GAP + 24 + 2 * height]
    assert all((caption < 128).any() for caption in captions)
    assert not torch.equal(*captions)
    swapped = contact_sheet([video, video], captions=["snow", "rain"])
    assert torch.equal(swapped[GAP : GAP + height], captions[1])


def test_long_captions_are_wrapped(drawn) -> None:
    video = drawn(frames=4)
    one = contact_sheet([video], captions=["rain"])
    many = contact_sheet([video], captions=["rain on the roofs of a town " * 4])
    endless = contact_sheet([video], captions=["rain" * 40])  # one word cannot be wrapped
    assert many.shape[0] > one.shape[0] + 16 and endless.shape == one.shape
    assert (many[:, :GAP] == 255).all() and torch.equal(many[-24 - GAP :], one[-24 - GAP :])


def test_impossible_sheets_are_refused(drawn) -> None:
    with pytest.raises(Refusal, match="0 videos in 8 columns"):
        contact_sheet([])
    with pytest.raises(Refusal, match="1 videos in 0 columns"):
        contact_sheet([drawn()], columns=0)
    with pytest.raises(Refusal, match="1 captions for 2 videos"):
        contact_sheet([drawn(), drawn()], captions=["rain"])


def test_a_png_file_holds_the_sheet_and_the_notes(tmp_path: Path, drawn) -> None:
    video = drawn(frames=5, prompt="rain")
    write_video(video, tmp_path / "a.png")
    assert torch.equal(read_video(tmp_path / "a.png")[0], contact_sheet([video]))
    assert read_notes(tmp_path / "a.png") == {"prompt": "rain"}


def test_a_png_file_of_one_frame_is_the_frame(tmp_path: Path, drawn) -> None:
    video = drawn(frames=1, width=33, height=17)
    write_video(video, tmp_path / "a.png")
    assert torch.equal(read_video(tmp_path / "a.png").frames, video.frames)
