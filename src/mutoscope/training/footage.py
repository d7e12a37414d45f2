"""The clips that a course is trained on: of the made world, of a folder, or of an archive of digits.

One place knows where clips come from, what is told of them, and which prompts show how far a model is.
"""

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mutoscope.data.captions import every_wording, full_caption
from mutoscope.data.clips import Clip, Verdict, verify
from mutoscope.data.digits import ARCHIVE, DigitSource
from mutoscope.data.loader import FolderSource, Source, WorldSource
from mutoscope.data.world import VOCABULARIES

__all__ = ["ClipSettings", "Footage", "Settings", "Sources"]

SHOWN = 7  # the seed of the scenes that sample sheets show


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClipSettings(Settings):
    """The clips that are trained on."""

    vocabulary: Literal["small", "full"] = "small"
    frames: int = Field(default=25, ge=1)
    width: int = Field(default=96, ge=16)
    height: int = Field(default=64, ge=16)
    fps: float = Field(default=12.0, gt=0)
    seed: int = 1


Sources = Callable[[ClipSettings, int, int], Source]
"""Gives the clips of these settings, of a number of frames and a seed."""


class Footage:
    """Clips of these settings.

    data: a folder of real clips, or one that holds (or is) mnist.npz; None is the made world. sources: gives
    the clips, where they are not drawn here and now. Raises Refusal for a folder without clips.
    """

    def __init__(
        self, settings: ClipSettings, *, data: str | Path | None, sources: Sources | None, device: str
    ) -> None:
        self.settings, self.data, self.sources, self.device = settings, data, sources, device
        self.archive = _archive(data)
        self.verdict: Verdict | None = None if data is None or self.archive else verify(data)
        self.clips: list[Clip] = [] if self.verdict is None else list(self.verdict.good)

    def source(self, frames: int, *, seed: int | None = None) -> Source:
        """Clips of so many frames; `seed` in place of the settings'."""
        own = self.settings
        common: dict[str, Any] = {
            "frames": frames, "size": (own.width, own.height), "fps": own.fps,
            "seed": own.seed if seed is None else seed,
        }  # fmt: skip
        if self.sources is not None:
            return self.sources(own, frames, common["seed"])
        if self.archive is not None:
            return DigitSource.read(self.archive, **common)
        if self.data is not None:
            return FolderSource(self.clips, **common)
        return WorldSource(VOCABULARIES[own.vocabulary], device=self.device, **common)

    @cached_property
    def prompts(self) -> list[str]:
        """What sample sheets show: the README's film and what the clips are about."""
        if self.archive is not None:
            return self.source(1, seed=SHOWN).batch(0, 8).captions
        if self.data is not None:
            return list(dict.fromkeys(clip.text for clip in self.clips))[:8]
        scenes = VOCABULARIES[self.settings.vocabulary].scenes(SHOWN, 0, 7, held_out=True)
        return ["a man walking in the rain", *(full_caption(scene) for scene in scenes)]

    @property
    def wordings(self) -> list[str]:
        """What is told of the clips, for a tokenizer to learn from."""
        if self.archive is not None:
            return DigitSource.read(self.archive).words
        return [clip.text for clip in self.clips] or every_wording(VOCABULARIES[self.settings.vocabulary])

    @property
    def vocabulary(self) -> str:
        """The name of the made world's words, empty for other clips."""
        return "" if self.data is not None else self.settings.vocabulary

    def described(self) -> str:
        """What the clips are, in a line that another text or clip changes."""
        if self.data is None:
            return "the made world"
        facts = [(clip.path.name, clip.text, clip.frames, clip.fps) for clip in self.clips]
        return f"{Path(self.data).name} {hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}"


def _archive(data: str | Path | None) -> Path | None:
    if data is None:
        return None
    path = Path(data) if Path(data).name == ARCHIVE else Path(data) / ARCHIVE
    return path if path.is_file() else None
