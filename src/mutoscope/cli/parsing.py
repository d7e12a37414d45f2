"""A command line becomes a call: tyro reads it by the commands' signatures.

What it cannot read becomes one line. The settings of a recipe are no options of `train`: they are taken out
first (--NAME VALUE) and handed over as they are. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import tyro

__all__ = ["Misuse", "parsed"]


class Misuse(ValueError):
    """A command line that makes no sense; the same to a user as `video.Refusal`, which costs an import of
    torch."""


def parsed(arguments: list[str], commands: Mapping[str, Callable[..., None]]) -> Callable[[], None]:
    """The command that was asked for, ready to run; help is printed here, and misuse becomes one line."""
    if arguments and not arguments[0].startswith("-") and arguments[0] not in commands:
        raise Misuse(f"no command {arguments[0]!r}; {_nearest(arguments[0], list(commands))}")
    complaint = io.StringIO()
    arguments, settings = _without_settings(arguments)
    try:
        with contextlib.redirect_stderr(complaint):
            asked: Callable[..., None] = tyro.extras.subcommand_cli_from_dict(
                {name: _later(command) for name, command in commands.items()},
                prog="mutoscope",
                description="Words in, moving pictures out.",
                args=arguments or ["--help"],
            )
        return functools.partial(asked, settings=settings) if settings else asked
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise
        raise Misuse(_complaint(complaint.getvalue(), arguments, commands)) from None


def _without_settings(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Takes a recipe's settings, --NAME VALUE where NAME is no option of `train`, out of its command line."""
    if arguments[:1] != ["train"]:
        return arguments, {}
    own = {"--out", "--data", "--stage", "--start", "--sheets", "--help", "-h"}
    kept, settings, rest = [], {}, iter(arguments)
    for word in rest:
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in own:
            kept += (
                [word, next(rest)]
                if name in own - {"--help"} and not equals and len(kept) + 1 < len(arguments)
                else [word]
            )
            continue
        value = value if equals else next(rest, None)
        if value is None:
            raise Misuse(f"{name} has no value; settings are given as {name} VALUE")
        settings[name.removeprefix("--")] = value
    return kept, settings


def _later(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """The command's signature, but calling it only remembers the call: parsing and running are two things."""

    @functools.wraps(command)
    def remember(*positional: Any, **named: Any) -> Callable[[], None]:
        return functools.partial(command, *positional, **named)

    return remember


def _complaint(text: str, arguments: list[str], commands: Collection[str]) -> str:
    """What tyro says in a box, in one line: its first paragraph, and the option it thinks was meant."""
    boxed = "╭" in text  # where stdout is not UTF-8 there are only rules, and the title is a paragraph
    lines = [line.strip(" │") for line in text.splitlines() if line[:1] not in ("╭", "╰")]
    paragraphs = re.split(r"[─-]{5,}", " ".join(" ".join(lines).split()))
    said = paragraphs[0 if boxed else min(1, len(paragraphs) - 1)].strip() or "cannot be understood"
    said = said.replace("'None', ", "").replace(", 'None'", "")
    if value := re.search(r"Error parsing (--[\w-]+): .*? from \[(.*?)\]", said):
        said = f"{value[1]} is {value[2]}, which is no number"
    if unknown := re.search(r"Unrecognized options: (.*)", said):
        close = re.search(r"Perhaps you meant: *(--[\w-]+)", " ".join(paragraphs))
        said = f"unknown: {unknown[1]}" + (f"; did you mean {close[1]}?" if close else "")
    command = f"{arguments[0]} " if arguments and arguments[0] in commands else ""
    return f"{said.rstrip('.')}; see mutoscope {command}--help"


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
