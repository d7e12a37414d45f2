"""What is asked of a model: words, seed and settings, checked before any work is done.

A `Request` is complete: whoever has it and the weights can make the film again. What a user leaves out comes
from the facts of the model (`asked`). Any number of frames and any size is a request: networks work on grids
of their own, and a film is made a little larger than asked for and cut back.
"""

import difflib
import re
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from mutoscope.checkpoints.folder import ModelFacts
from mutoscope.diffusion.plan import Kind
from mutoscope.pipelines.method import Method, check
from mutoscope.video import Refusal

__all__ = ["Request", "asked", "parsed_size"]

SamplerName = Literal[
    "euler", "heun", "multistep", "unipc", "ddpm", "ancestral", "sde", "sde3", "lcm", "churn"
]
SAMPLERS = get_args(SamplerName)
LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**63 - 1),
    "frames": (1, 100_000),
    "fps": (0.01, 1000),
    "steps": (1, 1000),
    "guidance": (0, 100),
}
SIDES = (8, 4096)
LONGEST_PROMPT = 10_000
_METHOD = tuple(Method.model_fields)
EXAMPLE = '"a man walking in the rain"'


class Request(BaseModel):
    """One film, complete.

    frames: how many pictures. size: width and height in pixels. fps: how fast they are shown (the model does
    not know). steps: how often the sampler moves. guidance: how strongly the words are followed, 1 for none.
    negative: words to keep away from. sampler: how it moves to the film. plan: in what order the frames
    are made; each takes `steps` moves (rolling: about as many). method: what most films leave as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prompt: str
    negative: str = ""
    seed: int = 0
    frames: int
    size: tuple[int, int]
    fps: float
    steps: int
    guidance: float
    sampler: SamplerName
    plan: Literal[Kind, "rolling"] = "full"
    method: Method = Method()

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise Refusal(f"the prompt is empty; say what to show, for example {EXAMPLE}")
        return prompt

    @field_validator("prompt", "negative")
    @classmethod
    def _is_text(cls, text: str) -> str:
        if len(text) > LONGEST_PROMPT:
            raise Refusal(f"a prompt of {len(text)} characters; at most {LONGEST_PROMPT} are taken")
        if not text.isprintable() and re.search(r"[^\s\S]|[\x00-\x08\x0e-\x1f\ud800-\udfff]", text):
            raise Refusal("the prompt holds control characters or broken Unicode; write it as plain text")
        return text

    @field_validator("size")
    @classmethod
    def _can_be_shown(cls, size: tuple[int, int]) -> tuple[int, int]:
        least, most = SIDES
        if not all(least <= side <= most for side in size):
            raise Refusal(f"size is {size[0]}x{size[1]}; each side must be from {least} to {most} pixels")
        return size

    @field_validator(*LIMITS)
    @classmethod
    def _within_limits(cls, value: float, info: Any) -> float:
        least, most = LIMITS[info.field_name]
        if not least <= value <= most:
            raise Refusal(f"{info.field_name} is {value}; it must be from {least} to {most}")
        return value

    @model_validator(mode="after")
    def _means_something(self) -> "Request":
        check(self)
        return self

    @property
    def seconds(self) -> float:
        """How long the film plays."""
        return self.frames / self.fps


def asked(prompt: str, facts: ModelFacts, **settings: Any) -> Request:
    """The request for a prompt; settings that are missing or None are the model's own.

    Settings are the fields of `Request` and of its `Method`, with `seconds` in place of `frames` if that is
    handier, and `size` also as text ("160x96").

    Raises:
        Refusal: an unknown setting, or a value out of range.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    _check_names(given)
    own = facts.model_dump(include={"frames", "size", "fps", "steps", "guidance", "sampler"})
    method = {"noise": facts.noise} | {name: given.pop(name) for name in [*given] if name in _METHOD}
    values = own | given | {"prompt": prompt, "method": method}
    if "seconds" in values:
        values["frames"] = _frames(values.pop("seconds"), given, fps=values["fps"])
    if isinstance(values["size"], str):
        values["size"] = parsed_size(values["size"])
    return checked(values)


def checked(values: Any) -> Request:
    """A request from plain values; what pydantic says becomes one line."""
    try:
        return Request.model_validate(values)
    except ValidationError as error:
        raise Refusal(one_line(error)) from None


def one_line(error: ValidationError) -> str:
    """The first thing that is wrong, with the value and what is allowed."""
    first = error.errors()[0]
    own = first.get("ctx", {}).get("error")
    if isinstance(own, Refusal):
        return str(own)
    name = ".".join(str(part) for part in first["loc"] if part != "method")
    said = first["msg"][:1].lower() + first["msg"][1:]
    return f"{name} is {first['input']!r}; {said}"


def parsed_size(text: str) -> tuple[int, int]:
    """ "160x96" as width and height."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*[x×X*,]\s*(\d{1,6})\s*", text)
    if not match:
        raise Refusal(f"size is {text!r}; write width x height in pixels, like 160x96")
    return int(match[1]), int(match[2])


def _frames(seconds: Any, given: dict[str, Any], *, fps: Any) -> int:
    if "frames" in given:
        raise Refusal(f"both frames ({given['frames']}) and seconds ({seconds}) are given; say one of them")
    try:
        frames = float(seconds) * float(fps)
    except (TypeError, ValueError):
        raise Refusal(f"seconds is {seconds!r}; it must be a number") from None
    most = LIMITS["frames"][1]
    if not 0 < frames <= most:
        raise Refusal(f"seconds is {seconds}; with {fps} fps that is not from 1 to {most} frames")
    return max(1, round(frames))


def _check_names(given: dict[str, Any]) -> None:
    known = [*(name for name in Request.model_fields if name != "method"), "seconds", *_METHOD]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise Refusal(f"no setting {name!r}; {hint}")
