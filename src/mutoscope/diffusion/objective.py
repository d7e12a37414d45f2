"""What a network is trained on: at which times, on which films, and how wrong it was.

    t ~ shift(sigmoid(N(mean, std)))        noisy = alpha(t) clean + sigma(t) noise
    loss = mean weight(t) (network(noisy, t) - target)^2, one number a sample

A share of the clips has a time for every frame (Diffusion Forcing, 2407.01392), which is what lets one model
walk every plan of noise levels; the rest have one time for the whole clip, as in ordinary video diffusion.

An error of 1 in a prediction is one of c in the clean film and of n in the noise, and SNR = n^2 / c^2. A
weighting is a function of c and n, and so serves every kind of prediction: min-SNR is min(n^2, gamma c^2).
"""

from typing import Literal

import torch
from einops import reduce
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mutoscope.diffusion.prediction import Prediction, target
from mutoscope.diffusion.schedule import STRAIGHT, Level, Schedule, precise, shift, spread

Film = Float[Tensor, "b c f h w"]


class TrainingTimes(BaseModel):
    """Which times a network is trained at.

    distribution: logit_normal (2403.03206, section 3.1: the middle, where it is hardest), uniform, or
    log_normal (2206.00364: sigma / alpha is; the same as logit_normal on the straight line). mean, std: of
    the logit or logarithm; EDM's are -1.2 and 1.2. shift: moves all towards noise, as the sampler's shift
    does. independent: the share of clips in [0, 1] whose frames each have their own time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    distribution: Literal["logit_normal", "uniform", "log_normal"] = "logit_normal"
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    shift: float = Field(default=1.0, gt=0)
    independent: float = Field(default=0.0, ge=0, le=1)

    def draw(
        self, batch: int, frames: int, *, generator: torch.Generator, schedule: Schedule = STRAIGHT
    ) -> Float[Tensor, "b f"]:
        """Times for a batch, in (0, 1), float32, on the generator's device. Only log_normal asks the
        schedule."""
        device = generator.device
        alone = torch.rand(batch, 1, generator=generator, device=device) < self.independent
        t = self._levels((batch, frames), generator, schedule)
        return shift(torch.where(alone, t, t[:, :1]), self.shift)

    def _levels(self, shape: tuple[int, int], generator: torch.Generator, schedule: Schedule) -> Tensor:
        if self.distribution == "uniform":
            return torch.rand(shape, generator=generator, device=generator.device)
        normal = torch.randn(shape, generator=generator, device=generator.device)
        if self.distribution == "log_normal":
            return schedule.time(-2 * (self.mean + self.std * normal)).float()
        return torch.sigmoid(self.mean + self.std * normal)


def corrupt(clean: Film, noise: Film, *, t: Float[Tensor, "b f"], schedule: Schedule = STRAIGHT) -> Film:
    """The films at time t, a time for every frame, in float32 or better."""
    return schedule.level(t).mix(clean, noise)


class Weighting(BaseModel):
    """How much the errors at each level count, whatever is predicted; said of the clean film's error:

    min_snr (2303.09556) is min(SNR, gamma); sigmoid (2410.19324) has a soft corner, SNR gamma / (SNR +
    gamma); edm (2206.00364) is SNR + 1 / std^2, for data of deviation std: one over the error of the best
    guess that is linear in a pixel, so that every level counts alike before anything is learnt; fused_snr
    (2407.01392) is min_snr at the levels that `fused` gives. none is 1 for the prediction itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["none", "min_snr", "sigmoid", "edm", "fused_snr"] = "none"
    gamma: float = Field(default=5.0, gt=0)
    std: float = Field(default=0.5, gt=0)
    decay: float = Field(default=0.96, ge=0, lt=1)

    def __call__(
        self, kind: Prediction, level: Level, *, error: Float[Tensor, "b f"] | None = None
    ) -> Float[Tensor, "b f"]:
        """What multiplies the squared error. Infinite only for edm where the prediction says nothing.

        error: the mean squared error of a better first guess of the clean film, for edm.
        """
        if self.name == "fused_snr":
            level = fused(level, gamma=self.gamma, decay=self.decay)
        clean, noise = _errors(kind, level)
        match self.name:
            case "none":
                return torch.ones_like(level.alpha)
            case "edm":
                return noise**2 + clean**2 / self.std**2 if error is None else clean**2 / error
            case "sigmoid":
                return 1 / (1 / noise**2 + 1 / (self.gamma * clean**2))
        return torch.minimum(noise**2, self.gamma * clean**2)


def fused(level: Level, *, gamma: float = 5.0, decay: float = 0.96) -> Level:
    """The levels of frames alone that are as easy as these after the frames before them (2407.01392).

    With s = SNR / gamma, S_0 = min(s_0, 1) and S_f = decay S_{f-1} + (1 - decay) min(s_f, 1), s_f becomes 1 -
    (1 - decay S_{f-1}) (1 - s_f), and stays where the history is pure noise.
    """
    snr = (level.alpha / level.sigma) ** 2 / gamma
    known = snr.clamp(max=1)
    memory, before = known[:, 0], [torch.zeros_like(known[:, 0])]
    for frame in known[:, 1:].unbind(dim=1):
        before.append(decay * memory)
        memory = decay * memory + (1 - decay) * frame
    past = torch.stack(before, dim=1)
    ratio = gamma * (past + (1 - past) * snr)
    size = torch.hypot(level.alpha, level.sigma)
    return Level(alpha=size * (1 + 1 / ratio).rsqrt(), sigma=size * (1 + ratio).rsqrt())


def _errors(kind: Prediction, level: Level) -> tuple[Tensor, Tensor]:
    """What an error of 1 in a prediction is in the clean film and in the noise."""
    alpha, sigma, one = level.alpha, level.sigma, torch.ones_like(level.alpha)
    match kind:
        case "clean":
            return one, alpha / sigma
        case "noise":
            return sigma / alpha, one
        case "score":
            return sigma**2 / alpha, sigma
    det = alpha + sigma if kind == "flow" else alpha**2 + sigma**2
    return sigma / det, alpha / det


def loss(
    said: Film,
    *,
    kind: Prediction,
    clean: Film,
    noise: Film,
    level: Level,
    weight: Float[Tensor, "b f"] | None = None,
) -> Float[Tensor, " b"]:
    """The mean squared error of a prediction, one number a sample: no sample's depends on its neighbours.

    weight: multiplies every frame's error before the mean over the sample, as from a `Weighting`; 0 leaves a
    frame out, None is 1 throughout.
    """
    square = squares(said, kind=kind, clean=clean, noise=noise, level=level)
    return reduce(square if weight is None else spread(weight, square) * square, "b c f h w -> b", "mean")


def squares(said: Film, *, kind: Prediction, clean: Film, noise: Film, level: Level) -> Film:
    """The squared error of a prediction of any kind, in float32 or better."""
    goal = target(kind, clean=precise(clean), noise=precise(noise), level=level)
    return (precise(said) - goal).square()


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, levels

    draw(levels.objective)
