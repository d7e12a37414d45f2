"""The house's laws that no linter knows: sizes, names, and nothing unpickled.

    python tools/laws.py [root]

Functions are short (median 10 lines, 90th percentile 30, none over 80; docstrings are not counted), files
end before line 500, the mathematics of diffusion fits in 2,000 lines of code (blank lines, comments and
docstrings are not counted), tests have at least 0.7 lines for a line of source, rooms are named after
things, every module of the package opens with its idea, and nothing read from a disk or a network is ever
unpickled.
Prints the ten longest functions and each breach; the exit status is 1 if there is one.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

MEDIAN, P90, LONGEST = 10, 30, 80
FILE_LINES = 500
ROOM_LINES = {"src/mutoscope/diffusion": 2000}
TEST_LINES_PER_SOURCE_LINE = 0.7
NOT_ROOMS = {"utils", "util", "common", "helpers", "helper", "misc", "core", "base", "shared"}
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CODE = ("src", "tests", "tools", "examples", "benchmarks")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Measured:
    """A function, where it is, and its length in lines."""

    where: str
    name: str
    lines: int


@dataclass
class Report:
    """What was measured, and each breach in a line."""

    functions: list[Measured] = field(default_factory=list)
    room_lines: dict[str, int] = field(default_factory=dict)
    source_lines: int = 0
    test_lines: int = 0
    breaches: list[str] = field(default_factory=list)

    def source_lengths(self) -> list[int]:
        """Lengths of the functions in src: short test functions must not pull the median down."""
        return [f.lines for f in self.functions if f.where.startswith("src/")]


def function_lines(function: Function) -> int:
    """Lines from `def` to the last statement, without the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def code_lines(text: str, tree: ast.Module) -> int:
    """Lines that are neither blank nor a comment nor part of a docstring."""
    told: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node, clean=False):
            told |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(1 for n, line in lines if line.strip() and not line.strip().startswith("#") and n not in told)


def functions_of(tree: ast.Module, where: str) -> Iterator[Measured]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield Measured(f"{where}:{node.lineno}", node.name, function_lines(node))


def percentile(values: Iterable[int], share: float) -> int:
    """The smallest value that at least this share of the values does not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0


def unpickling(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines that could run code hidden in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in imported(node):
                if module.split(".")[0] in UNPICKLERS:
                    yield node.lineno, f"imports {module}: weights are safetensors, settings are JSON"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "torch.load" and not says(node, "weights_only", True):
                yield node.lineno, "torch.load without weights_only=True"
            if says(node, "allow_pickle", True):
                yield node.lineno, f"{called} with allow_pickle=True"


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if node.module and not node.level else []


def says(call: ast.Call, keyword: str, value: object) -> bool:
    """Whether the call passes `keyword=value`, written out."""
    given = (k.value for k in call.keywords if k.arg == keyword)
    return any(isinstance(argument, ast.Constant) and argument.value is value for argument in given)


def read_file(report: Report, path: Path, root: Path) -> None:
    """Adds one file's measures and breaches."""
    where = path.relative_to(root).as_posix()
    top = where.split("/")[0]
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, filename=where)
    lines = text.splitlines()
    filled = sum(1 for line in lines if line.strip())
    if top == "tests":
        report.test_lines += filled
    elif top == "src":
        report.source_lines += filled
        if ast.get_docstring(tree) is None:
            report.breaches.append(f"{where}: opens without its idea (a module docstring)")
    if (room := path.parent.relative_to(root).as_posix()) in ROOM_LINES:
        report.room_lines[room] = report.room_lines.get(room, 0) + code_lines(text, tree)
    if len(lines) > FILE_LINES:
        report.breaches.append(f"{where}: {len(lines)} lines; a file has at most {FILE_LINES}")
    report.functions.extend(functions_of(tree, where))
    report.breaches.extend(f"{where}:{line}: {what}" for line, what in unpickling(tree))


def bad_names(root: Path) -> Iterator[str]:
    for path in sorted((root / "src").rglob("*")):
        if path.stem in NOT_ROOMS and (path.is_dir() or path.suffix == ".py"):
            where = path.relative_to(root).as_posix()
            yield f"{where}: a room is named after a thing; {path.stem!r} says nothing of what is in it"


def size_breaches(report: Report) -> Iterator[str]:
    lengths = report.source_lengths()
    for share, limit, words in ((0.5, MEDIAN, "median"), (0.9, P90, "90th percentile")):
        if (value := percentile(lengths, share)) > limit:
            yield f"functions in src: {words} {value} lines; at most {limit}"
    for f in report.functions:
        if f.lines > LONGEST:
            yield f"{f.where}: {f.name} has {f.lines} lines; a function has at most {LONGEST}"
    for room, count in report.room_lines.items():
        if count > ROOM_LINES[room]:
            yield f"{room}: {count} lines of code; this room has at most {ROOM_LINES[room]}"
    if report.test_lines < TEST_LINES_PER_SOURCE_LINE * report.source_lines:
        ratio = report.test_lines / report.source_lines
        yield f"tests: {ratio:.2f} lines for a line of source; at least {TEST_LINES_PER_SOURCE_LINE}"


def inspect(root: Path) -> Report:
    """Measures every Python file of the tree under `root`."""
    report = Report()
    for top in CODE:
        for path in sorted((root / top).rglob("*.py")):
            read_file(report, path, root)
    report.breaches.extend(bad_names(root))
    report.breaches.extend(size_breaches(report))
    return report


def show(report: Report) -> None:
    lengths = report.source_lengths()
    print("The ten longest functions:")
    for f in sorted(report.functions, key=lambda f: -f.lines)[:10]:
        print(f"{f.lines:5d}  {f.where}  {f.name}")
    median, p90 = (percentile(lengths, share) for share in (0.5, 0.9))
    print(f"{len(lengths)} functions in src: median {median}, 90th percentile {p90} lines")
    for room, count in report.room_lines.items():
        print(f"{room}: {count} lines of code, at most {ROOM_LINES[room]}")
    ratio = report.test_lines / max(report.source_lines, 1)
    print(f"{report.source_lines} lines of source, {report.test_lines} of tests: {ratio:.2f}")
    for breach in report.breaches:
        print(f"BREACH  {breach}")


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    report = inspect(root)
    show(report)
    return 1 if report.breaches else 0


if __name__ == "__main__":
    raise SystemExit(main())
