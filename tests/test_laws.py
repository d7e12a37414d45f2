"""The laws catch what they say they catch, and let the rest pass. That this tree keeps them: `make lint`."""

import ast
from pathlib import Path

import pytest

import laws


def written(root: Path, path: str, text: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return root


def breaches(root: Path) -> str:
    return "\n".join(laws.inspect(root).breaches)


def function(lines: int) -> str:
    """A function of this many lines, `def` included."""
    return "def long_one():\n" + "    pass\n" * (lines - 1)


def lines_of(text: str) -> int:
    [measured] = laws.functions_of(ast.parse(text), "x.py")
    return measured.lines


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that keeps every law."""
    written(tmp_path, "src/house/room.py", '"""A room."""\n\n\ndef door():\n    return 1\n')
    return written(tmp_path, "tests/test_room.py", "def test_door():\n    a = 1\n    assert a\n")


def test_a_good_tree_has_no_breach(tree: Path) -> None:
    assert laws.inspect(tree).breaches == []


def test_this_tree_is_found() -> None:
    report = laws.inspect(Path(__file__).parents[1])
    assert any(f.where.startswith("tools/laws.py") and f.name == "inspect" for f in report.functions)


@pytest.mark.parametrize(("lines", "caught"), [(80, False), (81, True)])
def test_the_longest_function(tree: Path, lines: int, caught: bool) -> None:
    written(tree, "tests/test_long.py", function(lines))
    assert ("a function has at most 80" in breaches(tree)) is caught


def test_a_docstring_is_not_counted() -> None:
    body = "    x = 1\n    return x\n"
    assert lines_of("def f():\n" + body) == 3
    assert lines_of('def f():\n    """One.\n\n    More.\n    """\n' + body) == 3
    assert lines_of('async def f():\n    """One."""\n' + body) == 3


def test_median_and_percentile_look_at_source_only(tree: Path) -> None:
    many = "\n".join(f"def f{i}():\n" + "    pass\n" * 39 for i in range(5))
    written(tree, "tests/test_many.py", many)
    assert "median" not in breaches(tree)
    written(tree, "src/house/many.py", '"""Many."""\n' + many)
    assert "median 40 lines" in breaches(tree)
    assert "90th percentile 40 lines" in breaches(tree)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, 0), ([7], 0.9, 7), ([1, 2, 3, 4], 0.5, 2), (range(1, 11), 0.9, 9), (range(1, 11), 1.0, 10)],
)
def test_percentile(values: list[int], share: float, expected: int) -> None:
    assert laws.percentile(values, share) == expected


@pytest.mark.parametrize(("lines", "caught"), [(500, False), (501, True)])
def test_the_longest_file(tree: Path, lines: int, caught: bool) -> None:
    written(tree, "tests/test_long.py", "a = 1\n" * lines)
    assert ("a file has at most 500" in breaches(tree)) is caught


def test_too_few_tests(tree: Path) -> None:
    written(tree, "src/house/more.py", '"""More."""\n' + "a = 1\n" * 40)
    assert "lines for a line of source; at least 0.7" in breaches(tree)


def test_blank_lines_are_no_tests(tree: Path) -> None:
    written(tree, "src/house/more.py", '"""More."""\n' + "a = 1\n" * 40)
    written(tree, "tests/test_more.py", "\n" * 100)
    assert "lines for a line of source" in breaches(tree)


@pytest.mark.parametrize("path", ["src/house/utils.py", "src/house/common/door.py", "src/base/__init__.py"])
def test_rooms_named_after_nothing(tree: Path, path: str) -> None:
    written(tree, path, '"""A room."""\n')
    assert "a room is named after a thing" in breaches(tree)


def test_a_word_inside_a_name_is_no_breach(tree: Path) -> None:
    written(tree, "src/house/baseline.py", '"""A room."""\n')
    written(tree, "src/house/core.json", "{}")
    assert breaches(tree) == ""


def test_a_module_without_its_idea(tree: Path) -> None:
    written(tree, "src/house/mute.py", "a = 1\n")
    assert "src/house/mute.py: opens without its idea" in breaches(tree)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import numpy, pickle as p",
        "from joblib import load",
        "def f():\n    import dill.source",
        "torch.load('x.pt')",
        "torch.load('x.pt', weights_only=False)",
        "numpy.load('x.npy', allow_pickle=True)",
    ],
)
def test_unpickling_is_caught(tree: Path, line: str) -> None:
    written(tree, "tests/test_more.py", line + "\n")
    assert len(laws.inspect(tree).breaches) == 1


@pytest.mark.parametrize(
    "line",
    [
        "torch.load('x.pt', weights_only=True)",
        "json.load(file)",
        "numpy.load('x.npy', allow_pickle=False)",
        "from .pickle import jar",
        "import picklement",
    ],
)
def test_what_does_not_unpickle_passes(tree: Path, line: str) -> None:
    written(tree, "tests/test_more.py", line + "\n")
    assert laws.inspect(tree).breaches == []


def test_main_prints_and_answers(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["laws.py", str(tree)])
    assert laws.main() == 0
    written(tree, "src/house/misc.py", '"""Odds."""\n')
    assert laws.main() == 1
    out = capsys.readouterr().out
    assert "The ten longest functions" in out
    assert "BREACH  src/house/misc.py" in out


def test_a_room_has_so_many_lines_of_code_and_any_number_of_words(tree: Path) -> None:
    code = "x = 1\n" * 400
    told = '"""A formula.\n\nAnd its source.\n"""\n\n# why\n'
    for name in "abcde":
        written(tree, f"src/mutoscope/diffusion/{name}.py", told + code)
    written(tree, "tests/test_all.py", code * 5)
    assert "2000 lines of code" not in breaches(tree).replace(",", "")
    written(tree, "src/mutoscope/diffusion/f.py", told + "x = 1\n")
    assert "src/mutoscope/diffusion: 2001 lines of code; this room has at most 2000" in breaches(tree)
