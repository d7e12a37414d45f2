"""MP4: colours within tolerance, the index first, BT.709 tags, odd sizes, the same bytes every time."""

from collections.abc import Callable
from pathlib import Path

import av
import pytest

from mutoscope.media import read_video, write_video
from mutoscope.video import Video


@pytest.mark.parametrize(("width", "height"), [(32, 24), (33, 25), (31, 24)])
def test_pixels_and_size_come_back(
    tmp_path: Path, drawn: Callable[..., Video], width: int, height: int
) -> None:
    video = drawn(width=width, height=height)
    back = read_video(write_video(video, tmp_path / "a.mp4"))
    assert back.frames.shape == video.frames.shape and back.fps == 12
    assert (back.frames.float() - video.frames.float()).abs().mean() < 5


def test_index_first_and_same_bytes(tmp_path: Path, drawn: Callable[..., Video]) -> None:
    first = write_video(drawn(prompt="rain"), tmp_path / "a.mp4").read_bytes()
    assert 0 < first.index(b"moov") < first.index(b"mdat")
    assert write_video(drawn(prompt="rain"), tmp_path / "b.mp4").read_bytes() == first


def test_colours_are_tagged(tmp_path: Path, drawn: Callable[..., Video]) -> None:
    with av.open(str(write_video(drawn(), tmp_path / "a.mp4"))) as film:
        context = film.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
