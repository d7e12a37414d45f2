"""Folders of clips: captions from three places, bad ones named and good ones kept, windows as asked for."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mutoscope.data.clips import Clip, check_clip, find_clips, read_clip, verify
from mutoscope.media import write_video
from mutoscope.video import Refusal, Video

SHADES = (40, 120, 200)


def film(path: Path, *, shades: Sequence[int] = SHADES, fps: float = 12) -> Path:
    """Writes grey frames, one shade each, so that a pixel tells which frame it is of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = torch.tensor(shades, dtype=torch.uint8)[:, None, None, None].expand(-1, 16, 24, 3)
    return write_video(Video(frames.contiguous(), fps), path)


def picture(path: Path, *, width: int = 24, height: int = 16) -> Path:
    """Writes thirds of red, green and blue along the longer side."""
    pixels = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    for channel in range(3):
        third = slice(channel * width // 3, (channel + 1) * width // 3)
        if height > width:
            pixels[:, channel * height // 3 : (channel + 1) * height // 3, :, channel] = 255
        else:
            pixels[:, :, third, channel] = 255
    return write_video(Video(pixels, 1), path)


def listing(folder: Path, *rows: object) -> None:
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


def named(*names: str) -> list[dict[str, str]]:
    return [{"file_name": name, "text": f"words for {name}"} for name in names]


def shades_of(window: torch.Tensor) -> list[int]:
    """The middle pixel of every frame, 0 to 255, rounded to ten: films are lossy."""
    _, _, height, width = window.shape
    levels = (window[0, :, height // 2, width // 2] + 1) * 127.5
    return [round(level / 10) * 10 for level in levels.tolist()]


def test_captions_in_a_csv(tmp_path: Path) -> None:
    text = '\ufefffile_name,text,author\nb.png,"a cat, and ""a dog""",me\nsub/a.mp4,schöner Regen,you\n'
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8")
    assert find_clips(tmp_path) == [
        Clip(tmp_path / "b.png", 'a cat, and "a dog"'),
        Clip(tmp_path / "sub" / "a.mp4", "schöner Regen"),
    ]


def test_captions_in_json_lines(tmp_path: Path) -> None:
    rows = '{"file_name": "b.png", "text": "rain\\non a roof"}\n\n{"text": null, "file_name": "a.png"}\n'
    (tmp_path / "metadata.jsonl").write_text(rows, encoding="utf-8")
    found = find_clips(str(tmp_path))
    assert [(clip.path.name, clip.text) for clip in found] == [("b.png", "rain\non a roof"), ("a.png", "")]


def test_captions_beside_the_files(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.png", "below/c.mp4", ".hidden/d.png", ".e.png", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a.txt").write_text("\ufeff a quiet street \n", encoding="utf-8")
    (tmp_path / "below" / "c.txt").write_bytes(b"caf\xe9")
    found = [(clip.path.relative_to(tmp_path).as_posix(), clip.text) for clip in find_clips(tmp_path)]
    assert found == [("a.png", "a quiet street"), ("b.PNG", ""), ("below/c.mp4", "caf\ufffd")]


def test_names_count_from_the_folder_of_their_metadata(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    listing(tmp_path / "train", *named("a.png"))
    picture(tmp_path / "loose.png")  # not listed, so no clip
    assert [clip.path for clip in find_clips(tmp_path)] == [tmp_path / "train" / "a.png"]


def test_bad_clips_are_named_and_the_good_kept(tmp_path: Path) -> None:
    good, also = film(tmp_path / "good.mp4"), picture(tmp_path / "also.png")
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:200])
    (tmp_path / "cut.png").write_bytes(also.read_bytes()[:60])
    (tmp_path / "words.mp4").write_text("these are words, and no film at all")
    (tmp_path / "empty.webm").touch()
    wrong = ["cut.mp4", "cut.png", "words.mp4", "empty.webm", "missing.mp4"]
    listing(
        tmp_path,
        *named("good.mp4", *wrong, "../out.png"),
        {"file_name": " ", "text": "?"},
        *named("also.png"),
    )
    verdict = verify(tmp_path)
    assert [(c.path.name, c.text, c.frames, c.fps) for c in verdict.good] == [
        ("good.mp4", "words for good.mp4", 3, 12.0),
        ("also.png", "words for also.png", 1, 1.0),
    ]
    assert [fault.name for fault in verdict.bad] == [*wrong, "../out.png", "metadata.jsonl"]
    reasons = {fault.name: fault.reason for fault in verdict.bad}
    assert reasons["empty.webm"] == "an empty file" and reasons["missing.mp4"] == "no such file"
    assert "damaged" in reasons["cut.png"] and "no video or picture" in reasons["words.mp4"]
    assert not any(str(tmp_path) in reason or "\n" in reason for reason in reasons.values())


def test_a_verdict_tells_itself(tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    (tmp_path / "bad.mp4").touch()
    told = "1 clips can be used, 1 cannot\n  bad.mp4: an empty file"
    assert str(verify(tmp_path)) == told


OUTSIDE = (
    "../a.png",
    "sub/../../a.png",
    "sub/..",
    "/etc/a.png",
    r"..\a.png",
    r"\a.png",
    r"C:\a.png",
    "C:a.png",
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "clips"
    picture(tmp_path / "a.png")
    picture(inside / "good.png")
    listing(inside, *named("good.png", name))
    with pytest.raises(Refusal, match="leaves the folder"):
        find_clips(inside)
    (fault,) = verify(inside).bad
    assert fault.name == name and "leaves the folder" in fault.reason


def test_an_absolute_name_is_refused_even_of_a_clip_inside(tmp_path: Path) -> None:
    listing(tmp_path, *named(str(picture(tmp_path / "a.png"))))
    with pytest.raises(Refusal, match="leaves the folder"):
        find_clips(tmp_path)


def test_dots_within_a_name_are_harmless(tmp_path: Path) -> None:
    listing(tmp_path, *named("a..b.png", "./c.png"))
    assert [clip.path.name for clip in find_clips(tmp_path)] == ["a..b.png", "c.png"]


@pytest.mark.parametrize("name", ["", "  ", None, 7])
def test_a_row_without_a_name_is_refused(tmp_path: Path, name: object) -> None:
    listing(tmp_path, {"file_name": name, "text": "words"})
    with pytest.raises(Refusal, match=r"metadata\.jsonl: a row without a file name"):
        find_clips(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("metadata.csv", b"name,text\na.png,words\n", "no column file_name; it has name, text"),
        ("metadata.csv", b"", "no column file_name and text; it has none"),
        ("metadata.csv", b"file_name,text\na.png,caf\xe9\n", "cannot be read"),
        ("metadata.jsonl", b'{"file_name": "a.png"}\n', "no column text"),
        ("metadata.jsonl", b'{"file_name": "a.png", "text": "b"}\n{"file_name"', "line 2 is no JSON"),
        ("metadata.jsonl", b'["a.png", "words"]\n', "line 1 is no JSON object"),
        ("metadata.jsonl", b"[" * 100_000, "line 1 is no JSON"),
    ],
)
def test_unreadable_metadata_is_refused(tmp_path: Path, file: str, content: bytes, reason: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(Refusal, match=reason):
        find_clips(tmp_path)


@pytest.mark.parametrize("look", [find_clips, verify])
def test_a_folder_without_clips_is_refused(tmp_path: Path, look) -> None:
    with pytest.raises(Refusal, match="no such folder"):
        look(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no film")
    with pytest.raises(Refusal, match="no clips; put films"):
        look(tmp_path)


def test_a_folder_of_broken_clips_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    with pytest.raises(Refusal, match=r"none of its 2 clips can be read; the first: a\.mp4: an empty file"):
        verify(tmp_path)


def test_a_long_clip_is_checked_for_its_time_only(tmp_path: Path) -> None:
    clip = Clip(film(tmp_path / "a.mp4", shades=[100] * 20), "")
    assert check_clip(clip).frames == 20
    assert check_clip(clip, seconds=0).frames == 1


def test_a_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    clip = check_clip(Clip(picture(tmp_path / "a.png"), "stripes"))
    assert (clip.frames, clip.text) == (1, "stripes")
    window = read_clip(clip, frames=4, size=(24, 16))
    assert window.shape == (3, 4, 16, 24) and window.dtype == torch.float32
    assert torch.equal(window[:, :1].expand_as(window), window)
    assert window[:, 0, 8, 4].tolist() == [1, -1, -1] and window[:, 0, 8, 20].tolist() == [-1, -1, 1]


def test_a_short_clip_repeats_its_last_frame(tmp_path: Path) -> None:
    clip = Clip(film(tmp_path / "a.mp4"), "")
    window = read_clip(clip, frames=6, size=(24, 16))
    assert shades_of(window) == [40, 120, 200, 200, 200, 200]
    assert torch.equal(window[:, 3:], window[:, 2:3].expand(-1, 3, -1, -1))


def test_windows_begin_where_asked_at_the_rate_asked(tmp_path: Path) -> None:
    clip = Clip(film(tmp_path / "a.mp4"), "")
    assert shades_of(read_clip(clip, frames=2, size=(24, 16), start=1)) == [120, 200]
    assert shades_of(read_clip(clip, frames=4, size=(24, 16), fps=24, start=1)) == [40, 120, 120, 200]
    with pytest.raises(Refusal, match="no frame 3; the clip ends before"):
        read_clip(clip, frames=2, size=(24, 16), start=3)


@pytest.mark.parametrize(("width", "height"), [(48, 16), (16, 48)])
def test_pictures_are_cut_around_their_centre(tmp_path: Path, width: int, height: int) -> None:
    clip = Clip(picture(tmp_path / "a.png", width=width, height=height), "")
    square = read_clip(clip, frames=1, size=(16, 16))  # the middle third, and nothing else
    green = torch.tensor([-1.0, 1.0, -1.0])[:, None, None, None].expand(3, 1, 16, 16)
    assert torch.equal(square, green)


def test_the_cut_keeps_the_aspect_at_another_size(tmp_path: Path) -> None:
    clip = Clip(picture(tmp_path / "a.png", width=96, height=32), "")
    small = read_clip(clip, frames=1, size=(16, 8))  # 64x32 of the 96x32: half of red, green, half of blue
    brightest = small[:, 0, 4].argmax(0).tolist()
    assert brightest == [0] * 4 + [1] * 8 + [2] * 4
