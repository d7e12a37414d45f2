"""Our samplers beside those of k-diffusion itself, step for step, on a denoiser of random weights.

    pip download --no-deps k-diffusion && unzip -o k_diffusion-*.whl
    python benchmarks/k_diffusion.py k_diffusion/sampling.py

k-diffusion cannot be a dependency: it brings torchvision, and with it another build of torch. Its samplers
need none of what it imports, so the one file is loaded with empty modules in the place of the rest; the one
function of the rest that they call is written here. Both sides get the same start, levels and noise. In
float64 the films agree to rounding (exit status 1 if not). In float32 theirs takes logarithms of float32
sigmas where ours are float64; beside the difference stands how far each is from its own film in float64.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mutoscope.diffusion.multistep import Multistep2, Multistep2Sde, Multistep3Sde
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.prior import Fresh
from mutoscope.diffusion.sampler import Euler, Heun, Sampler, sample
from mutoscope.diffusion.schedule import Edm, spread
from mutoscope.diffusion.stochastic import Ddim

SHAPE = (3, 4, 6, 5)
SEEDS = (1, 2)
BOUND = 1e-10
ABSENT = ("scipy", "scipy.integrate", "torchdiffeq", "torchsde", "k_diffusion", "k_diffusion.utils")
# Our name, our sampler, theirs, and what theirs is given.
ROWS: tuple[tuple[str, Sampler, str, dict[str, Any]], ...] = (
    ("Euler", Euler(), "sample_euler", {}),
    ("Heun", Heun(), "sample_heun", {}),
    ("DPM-Solver++ 2M", Multistep2(), "sample_dpmpp_2m", {}),
    ("Euler-ancestral, eta 1", Ddim(1.0), "sample_euler_ancestral", {"eta": 1.0}),
    ("Euler-ancestral, eta 0.5", Ddim(0.5), "sample_euler_ancestral", {"eta": 0.5}),
    ("2M-SDE, eta 1", Multistep2Sde(1.0), "sample_dpmpp_2m_sde", {"eta": 1.0}),
    ("2M-SDE, eta 0.5", Multistep2Sde(0.5), "sample_dpmpp_2m_sde", {"eta": 0.5}),
    ("3M-SDE, eta 1", Multistep3Sde(1.0), "sample_dpmpp_3m_sde", {"eta": 1.0}),
    ("3M-SDE, eta 0", Multistep3Sde(0.0), "sample_dpmpp_3m_sde", {"eta": 0.0}),
)


def samplers_of(path: Path) -> ModuleType:
    """k-diffusion's sampling.py, with what it imports and these samplers do not use left empty."""
    for name in ABSENT:
        sys.modules[name] = ModuleType(name)
    for module, attribute in (("scipy", "integrate"), ("torchdiffeq", "odeint"), ("k_diffusion", "utils")):
        setattr(sys.modules[module], attribute, sys.modules.get(f"{module}.{attribute}"))
    setattr(sys.modules["k_diffusion.utils"], "append_dims", lambda x, n: x[(..., *[None] * (n - x.ndim))])  # noqa: B010
    spec = importlib.util.spec_from_file_location("k_diffusion.sampling", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Random:
    """A denoiser of random weights that mixes channels and neighbouring pixels, the same for both sides."""

    def __init__(self, schedule: Edm) -> None:
        self.schedule = schedule
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(SHAPE[0], SHAPE[0], 3, 3, 3, generator=generator) / 12

    def __call__(self, noisy: Tensor, t: Tensor, condition: Any) -> Tensor:
        return self.at(noisy, spread(self.schedule.sigma(t).to(noisy), noisy))

    def at(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        seen = noisy / (sigma**2 + 0.25).sqrt()
        return torch.tanh(torch.nn.functional.conv3d(seen, self.weight.to(noisy), padding=1)) + 0.2 * seen


@dataclass(frozen=True)
class Films:
    """The same film made by both."""

    ours: Tensor
    theirs: Tensor


def films(
    public: Callable[..., Tensor], sampler: Sampler, given: dict[str, Any], *, dtype: torch.dtype
) -> Films:
    schedule = Edm(0.0, 10.0)
    denoiser, plan = Random(schedule), full_sequence(12, SHAPE[1])
    fresh = Fresh(SEEDS, SHAPE, dtype=dtype)
    start = fresh(0, "start") * schedule.sigma(plan.times[0, :1]).to(dtype)
    *_, last = sample(denoiser, start, plan=plan, sampler=sampler, fresh=fresh)
    steps = iter(range(1, plan.steps + 1))
    if "eta" in given:
        given = {**given, "noise_sampler": lambda *_: fresh(next(steps), "noise")}
    sigmas = schedule.sigma(plan.times[:, 0]).to(dtype)

    def model(x: Tensor, sigma: Tensor) -> Tensor:
        return denoiser.at(x, sigma[:, None, None, None, None])

    theirs = public(model, start, sigmas, disable=True, **given)
    return Films(last.noisy, theirs)


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference of two films, as a share of the largest value of the second."""
    return float((one - other).abs().max() / other.abs().max())


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    public, worst = samplers_of(Path(sys.argv[1])), 0.0
    print(f"{'':<26}{'float64':>10}{'float32':>10}{'error of ours':>16}{'error of theirs':>17}")
    for name, ours, theirs, given in ROWS:
        fine = films(getattr(public, theirs), ours, given, dtype=torch.float64)
        coarse = films(getattr(public, theirs), ours, given, dtype=torch.float32)
        worst = max(worst, apart(fine.ours, fine.theirs))
        print(
            f"{name:<26}{apart(fine.ours, fine.theirs):>10.1e}{apart(coarse.ours, coarse.theirs):>10.1e}"
            f"{apart(coarse.ours, fine.ours):>16.1e}{apart(coarse.theirs, fine.theirs):>17.1e}"
        )
    return int(worst > BOUND)


if __name__ == "__main__":
    raise SystemExit(main())
