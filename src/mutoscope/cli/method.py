"""The options of how a film is sampled: the same words as `pipelines.method.Method`, said without torch.

An option that is left out is the model's own or does nothing, and is not handed on.
"""

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import tyro

__all__ = ["MethodOptions", "PlanOption", "SamplerOption"]

_OWN = "(default: the model's own)"
_NONE = "(default: none)"
SamplerOption = Annotated[
    Literal["euler", "heun", "multistep", "unipc", "ddpm", "ancestral", "sde", "sde3", "lcm", "churn"] | None,
    tyro.conf.arg(metavar="NAME", help_behavior_hint=_OWN),
]
PlanOption = Literal["full", "autoregressive", "pyramid", "blocks", "keyframes", "rolling"]
Amount = tyro.conf.arg(metavar="X", help_behavior_hint=_NONE)

ShiftOption = Annotated[str | None, tyro.conf.arg(metavar="X|size", help_behavior_hint=_OWN)]


@dataclass(frozen=True)
class MethodOptions:
    """How it is sampled, beyond steps and guidance."""

    noise: Annotated[str | None, tyro.conf.arg(metavar="NAME[:A]", help_behavior_hint=_OWN)] = None
    """between frames: independent, mixed, progressive (A: how alike), or reuse for long films."""
    passes: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: 1)")] = None
    """make the film so often, each time from the slow noise of the last."""
    window: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint=_NONE)] = None
    """pictures seen at a time, for films longer than the model's own."""
    shift: ShiftOption = None
    """of the steps towards noise; size: as the film's size asks for."""
    stabilise: Annotated[float | None, Amount] = None
    """show finished frames to later ones as if so noisy; 0.015 is usual."""
    guidance_kind: Literal["plain", "zero-star", "projected"] = "plain"
    """projected keeps colours at high guidance; zero-star trusts it less near noise."""
    guidance_band: Annotated[
        tuple[float, float] | None, tyro.conf.arg(metavar="LO HI", help_behavior_hint="(default: 0 1)")
    ] = None
    """guide only at these noise levels."""
    guidance_rescale: Annotated[float | None, Amount] = None
    """draw contrast back to the unguided; 0.7 is usual."""
    guidance_last: Annotated[float | None, Amount] = None
    """guidance of the last frame; it changes evenly from the first."""
    smoothness: Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint="(default: 1)")] = None
    """above 1 smoother motion, below looser."""

    def given(self) -> dict[str, Any]:
        """The settings of a request; None for what was left out."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
