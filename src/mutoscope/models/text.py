"""Words as rows: token ids become vectors that know their sentence.

An encoder in the layout of umT5 (Chung et al. 2023): blocks of attention and a gated feed-forward network,
each x + f(rms(x)), without biases. Attention scores are not scaled; order enters only through a bias that
every layer learns for the distance between two tokens, in buckets that grow logarithmically.

Rows past the end of a caption are zero. The transformer attends zero rows up to `Text.padded_to`, as the
public pipelines do, so what that number is belongs to the text and travels with it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mutoscope.models.activation import gelu
from mutoscope.models.attention import attend


@dataclass(frozen=True)
class Text:
    """Encoded captions: `rows` "b n d", `mask` "b n" (True for real rows, which come first), and the length
    `padded_to` up to which the transformer attends zero rows (512 in the public pipelines; n at least)."""

    rows: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]
    padded_to: int = 512

    def explicit(self) -> Float[Tensor, "b p d"]:
        """The rows with all their zero rows, p = padded_to: what other implementations want to be given."""
        rows = self.rows * self.mask.unsqueeze(-1)
        return F.pad(rows, (0, 0, 0, self.padded_to - rows.shape[1]))


class TextEncoderConfig(BaseModel):
    """The shape of a text encoder; `width` is the dimension of its rows and must equal the transformer's
    text_dim."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary: int = Field(gt=0)
    width: int = Field(default=256, gt=0)
    layers: int = Field(default=2, gt=0)
    heads: int = Field(default=4, gt=0)
    head_dim: int = Field(default=64, gt=0)
    ffn_dim: int = Field(default=640, gt=0)
    buckets: int = Field(default=32, ge=4, multiple_of=4)
    max_distance: int = Field(default=128, gt=8)
    eps: float = Field(default=1e-6, gt=0)


class TextEncoder(nn.Module):
    """umT5's encoder. Weights are initialised as in T5 (Raffel et al. 2020): no score scaling, so queries are
    small at the start; rows leave with an RMS of one."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=config.eps)
        nn.init.normal_(self.tokens.weight)

    def forward(self, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """Encode token ids; `mask` says which are real. Rows past the mask are zero."""
        # The least float and not -inf: a caption without any token must not become NaN.
        hidden = torch.zeros(mask.shape, device=ids.device).masked_fill(~mask, torch.finfo(torch.float32).min)
        buckets = self._buckets(ids)
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x, buckets, padding=rearrange(hidden, "b m -> b 1 1 m"))
        return self.norm(x) * mask.unsqueeze(-1)

    def _buckets(self, ids: Tensor) -> Int[Tensor, "n n"]:
        places = torch.arange(ids.shape[1], device=ids.device)
        return distance_buckets(
            places[None, :] - places[:, None],
            buckets=self.config.buckets,
            max_distance=self.config.max_distance,
        )


class TextBlock(nn.Module):
    """Attention, then GELU(gate) · up, each on RMS-normed rows and added to them."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        width, inner = config.width, config.heads * config.head_dim
        self.heads = config.heads
        self.attention_norm = nn.RMSNorm(width, eps=config.eps)
        self.query, self.key, self.value = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, width, bias=False)
        self.distance = nn.Embedding(config.buckets, config.heads)
        self.ffn_norm = nn.RMSNorm(width, eps=config.eps)
        self.gate, self.up = (nn.Linear(width, config.ffn_dim, bias=False) for _ in range(2))
        self.down = nn.Linear(config.ffn_dim, width, bias=False)
        self._initialise(width, config.head_dim)

    def _initialise(self, width: int, head_dim: int) -> None:
        """Every product starts with variance one; queries take over the 1/sqrt(head_dim) that scores lack."""
        nn.init.normal_(self.query.weight, std=(width * head_dim) ** -0.5)
        nn.init.normal_(self.distance.weight, std=width**-0.5)
        for linear in (self.key, self.value, self.out, self.gate, self.up, self.down):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)

    def forward(
        self, x: Float[Tensor, "b n d"], buckets: Int[Tensor, "n n"], *, padding: Float[Tensor, "b 1 1 n"]
    ) -> Float[Tensor, "b n d"]:
        x = x + self._attention(self.attention_norm(x), buckets, padding)
        normed = self.ffn_norm(x)
        return x + self.down(gelu(self.gate(normed)) * self.up(normed))

    def _attention(self, x: Tensor, buckets: Tensor, padding: Tensor) -> Tensor:
        query, key, value = (
            rearrange(linear(x), "b n (h d) -> b h n d", h=self.heads)
            for linear in (self.query, self.key, self.value)
        )
        bias = rearrange(self.distance(buckets), "n m h -> 1 h n m") + padding
        mixed = attend(query, key, value=value, bias=bias, scale=1.0)
        return self.out(rearrange(mixed, "b h n d -> b n (h d)"))


def distance_buckets(distance: Int[Tensor, "n m"], *, buckets: int, max_distance: int) -> Int[Tensor, "n m"]:
    """Sort signed distances (key minus query) into `buckets`: T5's relative positions, both directions.

    Half of the buckets are for keys to the right. Of each half, the first half holds one distance each and
    the rest grow logarithmically; `max_distance` and beyond share the last.
    """
    half = buckets // 2
    exact = half // 2
    length = distance.abs()
    growth = (length.clamp(min=1).float() / exact).log() / math.log(max_distance / exact)
    far = (exact + (growth * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(length < exact, length, far) + half * (distance > 0)
