"""What a network says, and what that means.

Everything a network may predict is a mix of the clean film and the noise:

    clean = 1 clean + 0 noise      noise = 0 clean + 1 noise
    flow = noise - clean           velocity = alpha noise - sigma clean
    score = -noise / sigma

and so is the noisy film, alpha clean + sigma noise. Two equations in two unknowns: any prediction p = a clean
+ b noise gives back both, divided by the determinant alpha b - sigma a, unless that is 0 (noise where nothing
is clean; clean where nothing is noise), which is refused. The score is the noise, said so that it is infinite
where nothing is noise.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.diffusion.schedule import Level, spread
from mutoscope.video import Refusal

Prediction = Literal["clean", "noise", "flow", "velocity", "score"]
Film = Float[Tensor, "b c f h w"]


def target(kind: Prediction, *, clean: Film, noise: Film, level: Level) -> Film:
    """What a perfect network of this kind would say: the training target."""
    if kind == "score":
        return noise / spread(-_finite_score(level), noise)
    a, b = _mix(kind, level)
    return spread(a, clean) * clean + spread(b, noise) * noise


def to_clean(kind: Prediction, value: Film, *, noisy: Film, level: Level) -> Film:
    """The clean film that the prediction `value` of `noisy` stands for. Refused for noise and score
    where alpha is 0."""
    if kind == "clean":
        return value
    if kind == "score":
        return to_clean("noise", -spread(level.sigma, value) * value, noisy=noisy, level=level)
    a, b = _mix(kind, level)
    det = _determinant(kind, level, a=a, b=b)
    return torch.addcmul(spread(b / det, noisy) * noisy, spread(level.sigma / det, noisy), value, value=-1)


def to_noise(kind: Prediction, value: Film, *, noisy: Film, level: Level) -> Film:
    """The noise that the prediction `value` of `noisy` stands for. Refused for clean and score where sigma is
    0."""
    if kind == "noise":
        return value
    if kind == "score":
        return -spread(_finite_score(level), value) * value
    a, b = _mix(kind, level)
    det = _determinant(kind, level, a=a, b=b)
    return spread(level.alpha / det, noisy) * value - spread(a / det, noisy) * noisy


def convert(value: Film, noisy: Film, *, source: Prediction, to: Prediction, level: Level) -> Film:
    """The same statement about `noisy` in other words. Raises Refusal where the source does not determine
    it."""
    if source == to:
        return value
    clean = to_clean(source, value, noisy=noisy, level=level)
    noise = to_noise(source, value, noisy=noisy, level=level)
    return target(to, clean=clean, noise=noise, level=level)


def _mix(kind: Prediction, level: Level) -> tuple[Tensor, Tensor]:
    """The shares (a, b) of clean and of noise in a prediction of this kind, `b f`."""
    match kind:
        case "clean":
            return torch.ones_like(level.alpha), torch.zeros_like(level.alpha)
        case "noise":
            return torch.zeros_like(level.alpha), torch.ones_like(level.alpha)
        case "flow":
            one = torch.ones_like(level.alpha)
            return -one, one
        case "velocity":
            return -level.sigma, level.alpha
    raise Refusal(f"prediction {kind!r}: it must be one of {', '.join(get_args(Prediction))}")


def _determinant(kind: Prediction, level: Level, *, a: Tensor, b: Tensor) -> Tensor:
    det = level.alpha * b - level.sigma * a
    if not bool(det.all()):
        where = "alpha = 0 (nothing is clean)" if kind == "noise" else "sigma = 0 (nothing is noise)"
        raise Refusal(
            f"{kind} prediction says nothing at {where}: predict flow or velocity, or keep the log-SNR finite"
        )
    return det


def _finite_score(level: Level) -> Tensor:
    if bool((level.sigma == 0).any()):
        raise Refusal("score at sigma = 0 (nothing is noise): it is infinite there; predict flow or velocity")
    return level.sigma


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, levels

    draw(levels.prediction)
