"""`python -m mutoscope.data.world`: a sheet that shows every word."""

from pathlib import Path

import pytest

from mutoscope.data.world import FULL, SMALL, Vocabulary
from mutoscope.data.world.__main__ import covering, films, main, tiles
from mutoscope.media import read_video


@pytest.mark.parametrize("vocabulary", [SMALL, FULL], ids=["small", "full"])
def test_the_chosen_scenes_show_every_word(vocabulary: Vocabulary):
    scenes = covering(vocabulary, seed=1)
    pairs = [(scene.style, scene.place) for scene in scenes]
    assert pairs == [(style, place) for style in vocabulary.style for place in vocabulary.place]
    if vocabulary is FULL:
        seen = {word for scene in scenes for word in scene.words().values()}
        assert all(set(words) <= seen for words in FULL.words().values())
    assert covering(vocabulary, seed=1) == scenes


def test_tiles_stand_in_rows_under_their_captions():
    scenes = SMALL.scenes(0, 0, 4)
    sheet = tiles(scenes, columns=2, size=(48, 32))
    assert sheet.shape[1] == 2 * (48 + 4) and sheet.shape[0] > 2 * 32 + 20
    assert films(scenes[:1], size=(48, 32)).shape[1] > 4 * 48


@pytest.mark.parametrize("films", [[], ["--films"]])
def test_the_command_writes_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, films: list[str]):
    path = tmp_path / "world.png"
    command = ["world", str(path), "--vocabulary", "small", "--size", "32x24", *films]
    monkeypatch.setattr("sys.argv", command)
    main()
    height, width = read_video(path).frames.shape[1:3]
    assert width > 64 and height > 48
