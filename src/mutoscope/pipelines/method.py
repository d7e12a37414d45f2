"""How a film is sampled beyond its words: noise, guidance and grid, all optional.

The default is what the model was made for. All of it travels with the film, and what would do nothing, or
undo something else, is refused (`check`).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mutoscope.diffusion.guidance import check_band
from mutoscope.diffusion.prior import PriorSettings
from mutoscope.video import Refusal

if TYPE_CHECKING:
    from mutoscope.pipelines.request import Request

__all__ = ["Method", "check"]

RENEWING = ("ddpm", "ancestral", "sde", "sde3", "lcm", "churn")
"""Samplers that add noise on their way."""


class Method(BaseModel):
    """Settings of sampling that most films leave as they are.

    noise: how the noise of frames is related, also as text ("mixed:1.5"); a model is best sampled with the
    one it was trained with. passes: how often the film is made, each time from the slow noise of the last
    (FreeInit). window: pictures that the model sees at a time, for films longer than its own; rolling always
    has one. shift: of the grid towards noise; "size" moves the model's own by the size of the film.
    stabilise: how noisy finished frames are shown to later ones.

    guidance_kind: plain, zero-star (CFG-Zero*) or projected (APG). guidance_band: noise levels lo < t <= hi
    that are guided. guidance_rescale: how far the contrast is drawn back to the unguided. guidance_last: the
    last frame's guidance; it changes evenly from the first's. smoothness: 1 is as trained, more is smoother
    motion. weak: the fingerprint of a weaker model that guides in place of the negative words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    noise: PriorSettings = PriorSettings()
    passes: int = Field(default=1, ge=1, le=100)
    window: int | None = Field(default=None, ge=1)
    shift: Literal["size"] | float | None = None
    stabilise: float = Field(default=0.0, ge=0, lt=1)
    guidance_kind: Literal["plain", "zero-star", "projected"] = "plain"
    guidance_band: tuple[float, float] = (0.0, 1.0)
    guidance_rescale: float = Field(default=0.0, ge=0, le=1)
    guidance_last: float | None = Field(default=None, ge=0, le=100)
    smoothness: float = Field(default=1.0, ge=0, le=100)
    weak: str = ""

    @field_validator("noise", mode="before")
    @classmethod
    def _by_name(cls, noise: Any) -> Any:
        """ "mixed:1.5" as settings."""
        if not isinstance(noise, str):
            return noise
        name, colon, a = noise.partition(":")
        return {"name": name} | ({"a": a} if colon else {})

    @field_validator("guidance_band")
    @classmethod
    def _is_a_band(cls, band: tuple[float, float]) -> tuple[float, float]:
        check_band(band)
        return band

    @field_validator("shift")
    @classmethod
    def _shifts(cls, shift: Any) -> Any:
        if isinstance(shift, float) and not 0 < shift <= 1000:
            raise Refusal(f"shift is {shift:g}; it must be above 0 and at most 1000, or the word size")
        return shift

    def changed(self, *names: str) -> list[str]:
        """Those of the names that are not as usual."""
        return [name for name in names if getattr(self, name) != Method.model_fields[name].default]


def check(request: "Request") -> None:
    """Raises Refusal for settings that mean nothing together, with the way out."""
    for refused in _conflicts(request, request.method):
        raise Refusal(refused)


def _conflicts(request: "Request", method: Method) -> Iterator[str]:
    shaped = method.changed("guidance_kind", "guidance_rescale")
    if request.guidance == 1 and method.guidance_last in (None, 1):
        for name in (*shaped, *method.changed("guidance_band", "weak")):
            yield f"guidance is 1, so nothing is guided and {name} does nothing; give another --guidance"
    if method.weak:
        for name in (*shaped, *method.changed("smoothness"), *(["negative"] if request.negative else [])):
            yield f"a weak model guides in place of the negative words: leave out {name} or weak"
    if method.smoothness != 1:
        for name in (*shaped, *method.changed("guidance_band", "guidance_last")):
            yield f"smoothness goes with plain guidance at all levels: leave out {name} or smoothness"
    if method.passes > 1 and method.noise.name in ("progressive", "reuse"):
        yield f"passes keep independent or mixed noise as it is, and not {method.noise.name}: leave one out"
    if method.stabilise and request.plan == "full":
        yield "stabilise is about finished frames, and plan full has none on the way: take another plan"
    if request.plan == "rolling":
        yield from _unending(request, method)


def _unending(request: "Request", method: Method) -> Iterator[str]:
    for name in method.changed("passes", "guidance_last"):
        yield f"plan rolling knows no last frame: leave out {name} or take another plan"
    if request.sampler in RENEWING:
        yield f"sampler is {request.sampler}, which adds noise; rolling takes euler, heun, multistep, unipc"
