"""Muon for the hidden matrices, AdamW for everything else, and the learning rate as a function of the step.

A hidden matrix W is moved by the nearest semi-orthogonal matrix to its momentum M = U S V^T:

    W <- W - lr * sqrt(max(1, rows / cols)) * U V^T

so that every direction the gradient knows is learnt at the same pace, not the loudest first. U V^T comes from
five Newton-Schulz steps, which are matrix products only. Of the two scalings in use we keep
sqrt(max(1, rows / cols)): the update then has the same effect on the activations at any width, so the
learning rate found on a small network (0.02) serves a large one, and our own measurements were made with it.

What is not a hidden matrix (embeddings, first and last layers, norms, biases, modulation tables) has no such
geometry and goes to AdamW. Names and shapes decide, see `is_hidden_matrix`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mutoscope.models.precision import fast_dtype
from mutoscope.video import Refusal

__all__ = [
    "AdamW",
    "Muon",
    "Optimizer",
    "OptimizerSettings",
    "is_hidden_matrix",
    "learning_rate_factor",
    "orthogonalise",
]

# The quintic p(s) = a s + b s^3 + c s^5 of Jordan et al. 2024: steep at zero, so that five steps lift even
# singular values near 0.002 into about [0.7, 1.2]; it does not converge to 1 exactly, and need not.
QUINTIC = (3.4445, -4.7750, 2.0315)

# Parts of a parameter's name that keep it with AdamW: tables, ...
TABLES = ("embed", "modulation", "table", "position", "norm", "logit")
# ... and the layers between the network and what it does not learn: pixels, latents, diffusion time.
ENDS = (
    *("patch", "head", "time.first", "time.second", "time.project"),
    *("coder.first", "coder.last", "after_encoder", "before_decoder"),
)
ADAMW_WORDS = TABLES + ENDS

# Layers that hold several matrices one above the other: each is made orthogonal on its own.
STACKED = {"qkv": 3, "kv": 2}


class OptimizerSettings(BaseModel):
    """How weights are moved; learning rates are those of the constant part of the schedule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    muon_lr: float = Field(
        default=0.02, ge=0, description="of the hidden matrices; 0 gives all weights to AdamW"
    )
    adamw_lr: float = Field(default=1e-3, ge=0, description="of everything else")
    momentum: float = Field(default=0.95, ge=0, lt=1, description="of Muon")
    betas: tuple[float, float] = Field(default=(0.9, 0.99), description="of AdamW")
    eps: float = Field(default=1e-8, gt=0, description="of AdamW")
    weight_decay: float = Field(
        default=0.0, ge=0, description="w <- w (1 - lr * weight_decay), not on vectors"
    )
    iterations: int = Field(default=5, ge=1, le=20, description="Newton-Schulz steps")
    adamw_words: tuple[str, ...] = Field(default=(), description="further parts of names that go to AdamW")


def is_hidden_matrix(name: str, weight: Tensor, *, words: Sequence[str] = ADAMW_WORDS) -> bool:
    """Whether Muon moves this weight: a matrix or convolution kernel whose name has none of the AdamW words.

    Depthwise kernels `(out, 1, ...)`, and tables stored as `(1, ...)`, are lists of vectors and not matrices.
    """
    if weight.ndim < 2 or any(word in name.lower() for word in words):
        return False
    return min(weight.shape[0], weight.shape[1]) > 1


def orthogonalise(
    matrices: Float[Tensor, "n rows cols"], *, iterations: int = 5, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "n rows cols"]:
    """U V^T of each matrix, singular values in about [0.7, 1.2]: Newton-Schulz, Jordan et al. 2024 ("Muon").

    A zero matrix stays zero. The result has the given dtype.
    """
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).float()  # the smaller Gram matrix is the cheaper one
    # Largest entry first: squares of what is left of momentum without gradients are below any float32.
    for order in (math.inf, 2):
        norm = torch.linalg.vector_norm(x, order, dim=(1, 2), keepdim=True)
        x = x / norm.clamp_min(1e-30)
    x = x.to(dtype)
    for _ in range(iterations):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


class Muon:
    """Momentum, made orthogonal: for named weights of at least two dimensions, kernels as `(out, in * k)`.

    Weights of one shape are moved together, by one batched product. Those without a gradient stay as they
    are.
    """

    def __init__(self, weights: Mapping[str, Tensor], *, settings: OptimizerSettings) -> None:
        self.weights = dict(weights)
        self.settings = settings
        self.momenta = {name: torch.zeros_like(w) for name, w in self.weights.items()}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        groups: dict[tuple, list[str]] = defaultdict(list)
        for name, weight in self.weights.items():
            if weight.grad is not None:
                groups[(weight.shape, stacked(name, weight), weight.dtype, weight.device)].append(name)
        for (shape, parts, _, device), names in groups.items():
            self._move(names, shape=shape, parts=parts, dtype=fast_dtype(device), lr=lr)

    def _move(
        self, names: list[str], *, shape: torch.Size, parts: int, dtype: torch.dtype, lr: float
    ) -> None:
        settings, weights = self.settings, [self.weights[n] for n in names]
        gradients = [w.grad for w in weights if w.grad is not None]
        momenta = [self.momenta[n] for n in names]
        torch._foreach_lerp_(momenta, gradients, 1 - settings.momentum)
        ahead = torch._foreach_lerp(gradients, momenta, settings.momentum)  # Nesterov: one step further
        matrices = rearrange(torch.stack(list(ahead)).flatten(2), "n (p r) c -> (n p) r c", p=parts)
        scale = math.sqrt(max(1.0, matrices.shape[1] / matrices.shape[2]))
        updates = orthogonalise(matrices, iterations=settings.iterations, dtype=dtype)
        updates = rearrange(updates, "(n p) r c -> n (p r) c", p=parts).reshape(len(names), *shape)
        if settings.weight_decay:
            torch._foreach_mul_(weights, 1 - lr * settings.weight_decay)
        torch._foreach_add_(weights, list(updates.to(weights[0].dtype)), alpha=-lr * scale)

    def tensors(self) -> dict[str, Tensor]:
        return {f"muon.{name}": momentum for name, momentum in self.momenta.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, momentum in self.momenta.items():
            momentum.copy_(_entry(tensors, f"muon.{name}"))


def stacked(name: str, weight: Tensor) -> int:
    """How many matrices stand one above the other in this weight (3 in `qkv.weight`), else 1."""
    layer = name.split(".")[-2] if "." in name else name
    parts = STACKED.get(layer.split("_")[-1], 1)
    return parts if weight.shape[0] % parts == 0 else 1


class AdamW:
    """AdamW (Loshchilov and Hutter 2019), torch's fused kernel, its state a flat mapping of tensors."""

    STATE = ("step", "exp_avg", "exp_avg_sq")

    def __init__(self, weights: Mapping[str, Tensor], *, settings: OptimizerSettings) -> None:
        self.weights = dict(weights)
        decayed = [w for w in self.weights.values() if w.ndim > 1]
        plain = [w for w in self.weights.values() if w.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        # One empty group keeps torch content where Muon has everything.
        groups = [g for g in groups if g["params"]] or [{"params": [], "weight_decay": 0.0}]
        self.inner = torch.optim.AdamW(
            groups, lr=settings.adamw_lr, betas=settings.betas, eps=settings.eps, fused=True
        )

    def step(self, lr: float) -> None:
        for group in self.inner.param_groups:
            group["lr"] = lr
        self.inner.step()

    def tensors(self) -> dict[str, Tensor]:
        state = self.inner.state
        return {
            f"adamw.{kind}.{name}": state[w][kind]
            for name, w in self.weights.items()
            if w in state
            for kind in self.STATE
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """A weight that had no gradient so far has no state, and starts without one again."""
        for name, weight in self.weights.items():
            if f"adamw.step.{name}" in tensors:
                self.inner.state[weight] = {
                    kind: _laid_out(_entry(tensors, f"adamw.{kind}.{name}"), weight) for kind in self.STATE
                }
            else:
                self.inner.state.pop(weight, None)


def _laid_out(state: Tensor, weight: Tensor) -> Tensor:
    """A copy of a weight's state in the weight's memory layout, which the fused kernel takes for granted."""
    if state.shape != weight.shape:  # the number of steps
        return state.to(weight.device, copy=True)
    return torch.empty_like(weight, dtype=state.dtype).copy_(state)


class Optimizer:
    """Both methods behind one step.

    `step(factor)` moves every weight with its learning rate times `factor`; `tensors()` is the whole state, a
    flat mapping that safetensors can hold, and `load(tensors)` takes it back.

    Args:
        named_weights: name and weight, as from `module.named_parameters()`; those not trained are left out.
        settings: see `OptimizerSettings`.
        tables: names of weights that are lists of vectors whatever they look like (embeddings): AdamW's.
    """

    def __init__(
        self,
        named_weights: Iterable[tuple[str, Tensor]],
        *,
        settings: OptimizerSettings,
        tables: Collection[str] = (),
    ) -> None:
        self.settings = settings
        self.weights = {name: w for name, w in named_weights if w.requires_grad}
        if not self.weights:
            raise Refusal("nothing to train: no weight has requires_grad; unfreeze at least one module")
        words = ADAMW_WORDS + settings.adamw_words
        hidden = {
            name: weight
            for name, weight in self.weights.items()
            if settings.muon_lr and name not in tables and is_hidden_matrix(name, weight, words=words)
        }
        self.muon = Muon(hidden, settings=settings)
        self.adamw = AdamW({n: w for n, w in self.weights.items() if n not in hidden}, settings=settings)

    def step(self, factor: float = 1.0) -> None:
        self.muon.step(self.settings.muon_lr * factor)
        self.adamw.step(self.settings.adamw_lr * factor)

    def zero_grad(self) -> None:
        for weight in self.weights.values():
            weight.grad = None

    def tensors(self) -> dict[str, Tensor]:
        return self.muon.tensors() | self.adamw.tensors()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.muon.load(tensors)
        self.adamw.load(tensors)

    def __repr__(self) -> str:
        def count(weights: dict[str, Tensor]) -> str:
            return f"{len(weights)} weights, {sum(w.numel() for w in weights.values()) / 1e6:.2f} M"

        return f"Optimizer(Muon: {count(self.muon.weights)}; AdamW: {count(self.adamw.weights)})"


def learning_rate_factor(
    step: int,
    *,
    steps: int | None,
    warmup_steps: int = 0,
    decay_share: float = 0.0,
    decay: Literal["linear", "sqrt"] = "linear",
) -> float:
    """The learning rate's factor in (0, 1] at a step counted from 0: warm-up, constant, final decay.

    Args:
        steps: of the whole run; None while not known, then there is no decay yet.
        warmup_steps: the factor rises linearly over these, from 1 / warmup_steps.
        decay_share: the last share of the steps in [0, 1], over which it falls towards 0.
        decay: "linear", or "sqrt" for 1 - sqrt(progress), which falls faster at first (Haegele et al. 2024).
    """
    factor = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    length = (steps or 0) * decay_share
    if not steps or not length:
        return factor
    progress = min(1.0, max(0.0, (step - (steps - length)) / length))
    return factor * (1 - (math.sqrt(progress) if decay == "sqrt" else progress))


def _entry(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise Refusal(
            f"the checkpoint has no optimizer state {name!r}: it was written by another network or "
            "optimizer; start a new run folder with init_from"
        )
    return tensors[name]
