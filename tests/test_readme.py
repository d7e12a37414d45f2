"""The words hold: what README.md and docs/*.md show runs, links lead somewhere, flags are known.

Python blocks of a file run in order in one namespace, in an empty folder. A comment on the line before a
block changes that: `<!-- not run -->` leaves it out, `<!-- slow -->` leaves it to `make slow`.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from mutoscope.recipes import resolve
from mutoscope.video import Refusal

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```", re.M | re.S
)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it starts on, and the mark before it."""

    language: str
    text: str
    line: int
    mark: str


def blocks_of(text: str, *, language: str | None = None) -> list[Block]:
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        found.append(Block(match["language"], match["text"], line, match["mark"] or ""))
    return [block for block in found if language is None or block.language == language]


def links_of(text: str) -> list[str]:
    """Relative links, outside code blocks."""
    prose = FENCE.sub("", text)
    links = [first or second for first, second in LINK.findall(prose)]
    return [link for link in links if not re.match(r"[a-z]+:|#", link)]


def commands_of(text: str, *, program: str) -> list[list[str]]:
    """The arguments of each call of this program in bash blocks."""
    calls = []
    for block in blocks_of(text, language="bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            calls.extend(calls_of(line))
    return [call[1:] for call in calls if call and Path(call[0]).name == program]


def calls_of(line: str) -> list[list[str]]:
    """The line's calls: its words as a shell reads them, split at `&&`, `|`, `;` and redirections."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    calls: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set("();<>|&"):
            calls.append([])
        else:
            calls[-1].append(word)
    return calls


def run_blocks(page: Path, marks: set[str]) -> None:
    """Runs a page's Python blocks whose mark is among `marks`, in order, in one namespace."""
    namespace = {"__name__": "__docs__"}
    for block in blocks_of(page.read_text(encoding="utf-8"), language="python"):
        if block.mark in marks:
            code = "\n" * (block.line - 1) + block.text  # so that a traceback names the page's own line
            exec(compile(code, str(page), "exec"), namespace)


def pages_with(mark: str) -> Iterator[Path]:
    for page in PAGES:
        blocks = blocks_of(page.read_text(encoding="utf-8"), language="python")
        if any(block.mark == mark for block in blocks):
            yield page


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", pages_with(""), ids=named)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(page, {""})


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("slow"), ids=named)
def test_slow_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(page, {"", "slow"})


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_marks_are_known(page: Path) -> None:
    for block in blocks_of(page.read_text(encoding="utf-8"), language="python"):
        assert block.mark in {"", "slow", "not run"}, f"{named(page)}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_relative_links_exist(page: Path) -> None:
    for link in links_of(page.read_text(encoding="utf-8")):
        assert (page.parent / link.split("#")[0]).exists(), f"{named(page)} links to {link}"


@cache
def help_of(*words: str) -> str:
    """What `mutoscope WORDS --help` prints; an unknown subcommand is a failure."""
    code = "import sys; from mutoscope.cli import main; sys.exit(main())"
    run = subprocess.run(
        [sys.executable, "-c", code, *words, "--help"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "COLUMNS": "200", "NO_COLOR": "1"},
    )
    assert run.returncode == 0, f"mutoscope {' '.join(words)} --help: {run.stdout}{run.stderr}"
    return run.stdout


def words_before_flags(arguments: list[str]) -> list[str]:
    """The subcommand and what stands directly behind it."""
    flags = [i for i, word in enumerate(arguments) if word.startswith("-")]
    return arguments[: flags[0]] if flags else arguments


def check_command(arguments: list[str]) -> None:
    """That the subcommand exists and every flag is in its help, or is a setting of the recipe it trains."""
    words = words_before_flags(arguments)
    text = help_of(*words)
    for index, word in enumerate(arguments):
        flag, _, value = word.partition("=")
        if not flag.startswith("-") or re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text):
            continue
        assert words[0] == "train", f"mutoscope {shlex.join(arguments)}: no {flag}"
        resolve(
            words[1], {flag.removeprefix("--"): value or arguments[index + 1]}
        )  # or a Refusal


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist(page: Path) -> None:
    for arguments in commands_of(page.read_text(encoding="utf-8"), program="mutoscope"):
        check_command(arguments)


def test_an_unknown_command_flag_or_setting_is_caught() -> None:
    check_command(["train", "smoke", "--out", "runs/x", "--autoencoder.train.minutes", "10"])
    with pytest.raises(AssertionError, match="no --sed"):
        check_command(["generate", "a man", "--sed", "3"])
    with pytest.raises(AssertionError, match="generte"):
        check_command(["generte", "a man"])
    with pytest.raises(Refusal, match="minuets"):
        check_command(["train", "smoke", "--autoencoder.train.minuets=10"])


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_make_targets_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M)
    for arguments in commands_of(page.read_text(encoding="utf-8"), program="make"):
        goals = [word for word in arguments if "=" not in word and not word.startswith("-")]
        assert set(goals) <= set(targets), named(page)


PAGE = """# A page with [a link](docs/x.md#here), [another](https://example.org/a) and [here](#below)

```python
a = 1
```

<!-- not run -->
```python
a = [no](link.md)
```

<!-- slow -->
```python
assert a == 1
```

```bash
cd x && mutoscope generate "a man; walking" \\
    --steps=4   # --comment
.venv/bin/mutoscope plan
make demo
```
"""


def test_blocks_are_read_with_their_marks() -> None:
    blocks = blocks_of(PAGE, language="python")
    assert [(block.mark, block.line) for block in blocks] == [("", 4), ("not run", 9), ("slow", 14)]
    assert blocks[0].text == "a = 1\n"


def test_links_are_the_relative_ones_of_the_prose() -> None:
    assert links_of(PAGE + '<img src="docs/rain.webp">') == ["docs/x.md#here", "docs/rain.webp"]


def test_commands_are_read_like_a_shell_does() -> None:
    assert commands_of(PAGE, program="mutoscope") == [["generate", "a man; walking", "--steps=4"], ["plan"]]
    assert commands_of(PAGE, program="make") == [["demo"]]


def test_a_block_sees_the_blocks_before_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    run_blocks(page, {"", "slow"})
    page.write_text(PAGE.replace("assert a == 1", "assert a == 2"))
    with pytest.raises(AssertionError):
        run_blocks(page, {"", "slow"})
