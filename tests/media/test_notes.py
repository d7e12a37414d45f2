"""Notes come back unchanged from every format, and a malformed label counts as absent."""

import json
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutoscope.media import read_notes, read_video, write_video
from mutoscope.media.notes import KEY, Label, pack, unpack
from mutoscope.video import Video

FILES = ("film.mp4", "film.webp", "film.gif", "sheet.png", "frames")
NOTES = {
    "prompt": "a man walking in the rain",
    "unicode": "größe Ελλάδα 雨の中 مطر",
    "emoji": "🎞️ 👩‍👩‍👧 \U0001f6f8",
    "json": json.dumps({"steps": 20, "guide": [1.5, None], "nested": {"quote": '"\\'}}),
    "lines": "one\ntwo\r\n\tthree",
    "signs": "a=b;c#d[e] -- 'f' \"g\" \\n",
    "empty": "",
    "ключ": "a name in Cyrillic",
}


@pytest.mark.parametrize("name", FILES)
def test_notes_come_back_from_every_format(tmp_path: Path, drawn: Callable[..., Video], name: str) -> None:
    path = write_video(drawn(frames=3, **NOTES), tmp_path / name)
    assert read_notes(path) == NOTES
    assert read_video(path).notes == NOTES


@pytest.mark.parametrize("name", FILES)
def test_a_video_without_notes_has_none(tmp_path: Path, drawn: Callable[..., Video], name: str) -> None:
    assert read_notes(write_video(drawn(frames=2), tmp_path / name)) == {}


@pytest.mark.parametrize("name", FILES)
def test_a_long_prompt_is_not_cut(tmp_path: Path, drawn: Callable[..., Video], name: str) -> None:
    prompt = "a very long walk " * 1200
    assert read_notes(write_video(drawn(frames=2, prompt=prompt), tmp_path / name)) == {"prompt": prompt}


words = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(words, words), st.floats(0.01, 1000), st.tuples(st.integers(1), st.integers(1)))
def test_packing_is_ascii_and_loses_nothing(notes: dict[str, str], fps: float, size: tuple[int, int]) -> None:
    label = Label(notes, fps, size)
    assert set(pack(label)) <= set(string.printable) and "\n" not in pack(label)
    assert unpack(pack(label)) == label


@pytest.mark.parametrize(
    "packed",
    [None, "", b"", "{", "[1]", "7", '{"fps": 3}', b"\xff\xfe\x00", "[" * 100_000, '"notes"', "null"],
)
def test_what_is_no_label_counts_as_absent(packed: str | bytes | None) -> None:
    assert unpack(packed) == Label()


@pytest.mark.parametrize("fps", ["12", -1, 0, 1e9, None, [12], "NaN"])
def test_a_senseless_rate_counts_as_absent(fps: object) -> None:
    assert unpack(json.dumps({"notes": {}, "fps": fps})).fps is None
    assert unpack('{"notes": {}, "fps": NaN}').fps is None


@pytest.mark.parametrize("size", [[0, 4], [4], [4, 4, 4], "44", ["4", "4"], [-4, 4], [1.5, 2], None])
def test_a_senseless_size_counts_as_absent(size: object) -> None:
    assert unpack(json.dumps({"notes": {}, "size": size})).size is None


@pytest.mark.parametrize("frames", [0, -3, 2.5, "7", [7], None])
def test_a_senseless_length_counts_as_absent(frames: object) -> None:
    assert unpack(json.dumps({"notes": {}, "frames": frames})).frames is None
    assert unpack(pack(Label(frames=7))).frames == 7


def test_notes_that_are_no_dictionary_count_as_absent_and_values_become_text() -> None:
    assert unpack('{"notes": [1, 2]}').notes == {}
    assert unpack('{"notes": {"seed": 7}}').notes == {"seed": "7"}


def test_plain_tags_are_notes_where_there_is_no_label_but_words_of_containers_are_not() -> None:
    tags = {"title": "rain", "encoder": "Lavf", "major_brand": "isom", KEY: "x", "number": 4}
    assert unpack(None, tags=tags).notes == {"title": "rain"}
    assert unpack('{"notes": {"a": "b"}}', tags=tags).notes == {"a": "b"}
