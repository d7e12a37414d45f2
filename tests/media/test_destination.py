"""Places are judged before the work, and a file appears whole or not at all."""

import os
from pathlib import Path

import pytest

from mutoscope.media.destination import appearing, check_writable
from mutoscope.video import Refusal


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a.MP4", "a.webp", "a.gif", "a.png", "frames", "new/deep/a.mp4"])
def test_known_endings_pass_and_nothing_is_created(tmp_path: Path, name: str) -> None:
    assert check_writable(tmp_path / name) == tmp_path / name
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["a.avi", "a.exe", "a.mp4.part", "a.txt"])
def test_unknown_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refusal, match=r"must end in \.mp4"):
        check_writable(tmp_path / name)


def test_a_spelling_mistake_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"did you mean .*rain\.mp4"):
        check_writable(tmp_path / "rain.mp5")


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    (tmp_path / "plain").write_text("mine")
    with pytest.raises(Refusal, match="is a folder"):
        check_writable(tmp_path / "a.mp4")
    with pytest.raises(Refusal, match="file without an ending"):
        check_writable(tmp_path / "plain")
    with pytest.raises(Refusal, match="nothing can be written below"):
        check_writable(tmp_path / "plain" / "a.mp4")


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "000000.png").write_bytes(b"")
    assert check_writable(tmp_path) == tmp_path
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(Refusal, match=r"diary\.txt"):
        check_writable(tmp_path)


def test_a_folder_without_the_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    with pytest.raises(Refusal, match="no right to write"):
        check_writable(tmp_path / "new" / "a.mp4")


def test_dots_are_taken_out(tmp_path: Path) -> None:
    assert check_writable(tmp_path / "new" / ".." / "a.mp4") == tmp_path / "a.mp4"


def test_a_file_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.mp4"
    with appearing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists() and temporary.parent == path.parent and temporary.name.startswith(".")
    assert path.read_text() == "new" and names(path.parent) == ["a.mp4"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_error_the_older_file_stands(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("old")
    with pytest.raises(error), appearing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["a.mp4"]


def test_a_folder_of_frames_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    path.mkdir()
    (path / "000009.png").write_text("old")
    with appearing(path) as temporary:
        temporary.mkdir()
        (temporary / "000000.png").write_text("new")
    assert names(path) == ["000000.png"] and names(tmp_path) == ["frames"]


def test_a_stranger_who_came_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    path.mkdir()
    with pytest.raises(Refusal, match=r"diary\.txt"), appearing(path) as temporary:
        temporary.mkdir()
        (path / "diary.txt").write_text("mine")
    assert (path / "diary.txt").read_text() == "mine" and names(tmp_path) == ["frames"]


def test_a_parent_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match="cannot be made"), appearing(tmp_path / "file" / "a.mp4"):
        raise AssertionError("the block must not be entered")
