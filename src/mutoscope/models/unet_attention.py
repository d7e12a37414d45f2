"""Attention of the U-Nets: over the pixels of a frame, over the frames at a pixel, and over words.

    x += attention(norm(x));   x += attention(norm(x), words)
    x += down(value · gelu(gate)),   value, gate = up(norm(x))

One module serves all three, because features lie as `b f p c`. The second axis is what is attended, and all
channels after it are heads of `head_dim`:

    (b f) p c      pixels, heads h
    b f (p c)      frames, heads (p h)
    b (f p) c      words, one set of keys and values for all frames of a sample

so nothing is moved in memory, and nothing repeated for every frame.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mutoscope.models.attention import attend, merged_padding_bias, rotate
from mutoscope.models.feed import gated_feed
from mutoscope.models.normed import LayerNorm
from mutoscope.models.text import Text

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Words:
    """Rows of text, and what is added to their scores (None: nothing): n texts, one for every sample, or one
    for every frame of every sample."""

    rows: Float[Tensor, "n m d"]
    bias: Float[Tensor, "n 1 1 m"] | None = None

    def of(self, texts: Int[Tensor, "k"]) -> "Words":
        """These texts."""
        texts = texts.to(self.rows.device)
        return Words(self.rows[texts], None if self.bias is None else self.bias[texts])

    def ordered(self, samples: list[int], order: Int[Tensor, "n f"], *, batch: int) -> "Words":
        """Of these samples of `batch`; texts of frames in the order of the frames, order[n, k] at place k."""
        whose = torch.tensor(samples)
        if len(self.rows) == batch:
            return self.of(whose)
        return self.of((order.shape[1] * whose.unsqueeze(1) + order).flatten())

    def split(self, film: int, count: int, *, batch: int) -> "tuple[Words, Words]":
        """Of the first `film` of `count` frames of every sample, and of each of the others as a sample."""
        if len(self.rows) == batch:
            return self, self.of(torch.arange(batch).repeat_interleave(count - film))
        places = torch.arange(len(self.rows)).view(batch, count)
        return self.of(places[:, :film].flatten()), self.of(places[:, film:].flatten())


def attended(text: Text | Tensor) -> Words:
    """A tensor "b m d" is attended as it is. Of a `Text` so are the real rows, and zero rows up to
    `padded_to` as one, see `merged_padding_bias`."""
    if isinstance(text, Tensor):
        return Words(text)
    return Words(F.pad(text.rows, (0, 0, 0, 1)), merged_padding_bias(text.mask, text.padded_to))


def zeroed(module: Module) -> Module:
    """The module, all its weights zero: what is added to a residual stream begins as nothing."""
    for weight in module.parameters():
        nn.init.zeros_(weight)
    return module


class HeadedAttention(nn.Module):
    """softmax(q kᵀ / sqrt(head_dim)) v along the second axis; no biases but at the output."""

    def __init__(
        self, channels: int, *, head_dim: int, context: int | None = None, start_at_zero: bool = False
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(context or channels, channels, bias=False)
        self.value = nn.Linear(context or channels, channels, bias=False)
        self.out = nn.Linear(channels, channels)
        if start_at_zero:
            zeroed(self.out)

    def forward(
        self,
        x: Float[Tensor, "b n *c"],
        *,
        context: Float[Tensor, "b m d"] | None = None,
        bias: Float[Tensor, "#b #h #n m"] | None = None,
        rope: Float[Tensor, "2 n p"] | None = None,
    ) -> Float[Tensor, "b n *c"]:
        if context is None and x.shape[1] == 1:  # who sees only itself
            return self.out(self.value(x))
        source = x if context is None else context
        query, key = self._heads(self.query(x), rope), self._heads(self.key(source), rope)
        mixed = attend(query, key, value=self._heads(self.value(source)), bias=bias)
        return self.out(mixed.transpose(1, 2).reshape(x.shape))

    def read(self, x: Float[Tensor, "b f p c"], words: Words | None) -> Float[Tensor, "b f p c"]:
        """Attention to the words of each sample or frame; without any, what zero rows would give."""
        if words is None:
            return self.out.bias.to(x.dtype).expand(x.shape)
        rows = words.rows.to(self.key.weight.dtype)
        apart = len(rows) != len(x)  # a text for every frame
        readers = x.flatten(0, 1) if apart else x.flatten(1, 2)
        return self(readers, context=rows, bias=words.bias).view(x.shape)

    def _heads(self, x: Tensor, rope: Tensor | None = None) -> Tensor:
        heads = x.reshape(*x.shape[:2], -1, self.head_dim)
        return (heads if rope is None else rotate(heads, rope)).transpose(1, 2)


class Feed(nn.Module):
    """down(value · gelu(gate)), four times as wide inside (GEGLU, Shazeer 2020)."""

    def __init__(self, channels: int, *, start_at_zero: bool = False) -> None:
        super().__init__()
        self.up = nn.Linear(channels, 8 * channels)
        self.down = nn.Linear(4 * channels, channels)
        if start_at_zero:
            zeroed(self.down)

    def forward(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
        up, down = self.up, self.down
        return gated_feed(x, up.weight, up_bias=up.bias, down=down.weight, down_bias=down.bias)


class SpaceBlock(nn.Module):
    """Pixels of a frame look at one another, then at the words, then a feed-forward network."""

    def __init__(self, channels: int, *, heads: int, text_dim: int | None, feed: bool) -> None:
        super().__init__()
        head_dim = channels // heads
        self.norm1 = LayerNorm(channels)
        self.attention = HeadedAttention(channels, head_dim=head_dim)
        self.norm2 = None if text_dim is None else LayerNorm(channels)
        self.second = (
            None if text_dim is None else HeadedAttention(channels, head_dim=head_dim, context=text_dim)
        )
        self.norm3 = LayerNorm(channels) if feed else None
        self.feed = Feed(channels) if feed else None

    def forward(self, x: Float[Tensor, "b f p c"], words: Words | None) -> Float[Tensor, "b f p c"]:
        frames = self.norm1(x).flatten(0, 1)
        x = x + self.attention(frames).view(x.shape)
        if self.second is not None and self.norm2 is not None:
            x = x + self.second.read(self.norm2(x), words)
        if self.feed is not None and self.norm3 is not None:
            x = x + self.feed(self.norm3(x))
        return x
