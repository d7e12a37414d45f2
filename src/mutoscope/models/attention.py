"""Attention over video tokens, and the three decisions that make it exact, positioned and fast.

Every query looks at every key:  out = softmax(q kᵀ / sqrt(d) + bias) v.

* Where a token stands is written into its query and key by rotation (RoPE): the head's channels are split
  into
  pairs, some pairs turn with the frame, some with the row, some with the column.
* A prompt shorter than the text length the model was trained with is followed by zero rows that ARE attended.
  All of them give the same key and value, so n of them weigh exactly as much as one key with log(n) added to
  its score: `merged_padding_bias`. 512 rows become a dozen, and nothing changes.
* Which kernel does the arithmetic is decided in one function, `fused_is_faster`.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

PLAIN_SCORES_AT_MOST = 2**27
"""Elements of the score matrix beyond which the plain path would cost too much memory (256 MiB in bf16)."""
FEW, MANY = 16, 64
"""Up to so many queries and keys, in at least so many heads, a fused kernel mostly begins and ends."""
REGISTER = 64
"""Bytes that a processor with AVX-512 takes at once."""


def fused_is_faster(query: Float[Tensor, "b h n d"], key: Float[Tensor, "b h m d"]) -> bool:
    """The one place where a kernel is chosen: PyTorch's fused attention, or bmm, softmax, bmm.

    Measured on AVX512 without AMX: in bf16 the fused CPU kernel does not reach the bf16 matrix units, and
    plain attention is 1.2 to 2.6 times as fast, most of all backward; in fp32 the fused kernel wins, but not
    among the few frames at a pixel (8: 5.2 against 8.5 ms forward and backward, 16: 8.0 against 14.2, 32:
    24.7 against 25.4, 1024 heads of 32). GPUs: fused. Depends on shapes, device and dtype only, so
    `torch.compile` decides it once.
    """
    if query.device.type != "cpu":
        return True
    few = max(query.shape[2], key.shape[2]) <= FEW and query.shape[0] * query.shape[1] >= MANY
    if query.dtype not in (torch.bfloat16, torch.float16) and not few:
        return True
    return query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2] > PLAIN_SCORES_AT_MOST


def attend(
    query: Float[Tensor, "b h n d"],
    key: Float[Tensor, "b h m d"],
    *,
    value: Float[Tensor, "b h m d"],
    bias: Float[Tensor, "#b #h #n m"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b h n d"]:
    """softmax(query keyᵀ · scale + bias) value, softmax in fp32; `scale` is 1/sqrt(d) unless given.

    `bias` is added to the scores: -inf removes a key, log(n) counts it n times.
    """
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    if fused_is_faster(query, key):
        mask = None if bias is None else bias.to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=factor)
    return plain_attention(query, key, value=value, bias=bias, scale=factor)


def plain_attention(
    query: Float[Tensor, "b h n d"],
    key: Float[Tensor, "b h m d"],
    *,
    value: Float[Tensor, "b h m d"],
    bias: Float[Tensor, "#b #h #n m"] | None,
    scale: float,
) -> Float[Tensor, "b h n d"]:
    """Attention as two batched matrix products around a softmax; scores are kept in the dtype of the
    query."""
    heads = query.shape[1]
    query, key, value = (rearrange(x, "b h n d -> (b h) n d") for x in (query * scale, key, value))
    scores = torch.bmm(query, key.transpose(1, 2))
    if bias is not None:
        scores = rearrange(rearrange(scores, "(b h) n m -> b h n m", h=heads) + bias, "b h n m -> (b h) n m")
    weights = softmax(scores).to(value.dtype)
    return rearrange(torch.bmm(weights, value), "(b h) n d -> b h n d", h=heads)


def softmax(scores: Float[Tensor, "b n m"]) -> Float[Tensor, "b n m"]:
    """Over m. Rows shorter than a register are taken side by side on a processor, see `_ShortRows`."""
    short = scores.shape[-1] * scores.dtype.itemsize < REGISTER
    if short and scores.device.type == "cpu" and not torch.compiler.is_compiling():
        return _ShortRows.apply(scores)  # type: ignore[no-any-return]
    return scores.softmax(dim=-1)


class _ShortRows(torch.autograd.Function):
    """Softmax with b last, where a kernel takes many rows at once; a short row it takes number by number.

    Forward and backward, moves included, for 2048x8x8 on a Zen 4 core: 0.6 instead of 3.3 ms in fp32, 0.5
    instead of 2.1 in bf16.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        weights = _turned(_turned(scores, 1).softmax(dim=1), 2)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weights,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient of this gradient will be asked for
            return weights * (grad - (weights * grad).sum(dim=-1, keepdim=True))
        side, weights = _turned(grad, 1), _turned(weights, 1)
        return _turned(torch.ops.aten._softmax_backward_data(side, weights, 1, weights.dtype), 2)


def _turned(x: Tensor, at: int) -> Tensor:
    """The axes before `at` put behind those after it. As a matrix: three axes are moved half as fast."""
    shape = (*x.shape[at:], *x.shape[:at])
    return x.flatten(at).flatten(0, at - 1).t().contiguous().view(shape)


def merged_padding_bias(mask: Bool[Tensor, "b n"], padded_to: int) -> Float[Tensor, "b 1 1 n+1"]:
    """Score biases for n text keys and one padding key that stands for all zero rows up to `padded_to`.

    Real keys get 0, keys past a sample's length -inf, and the padding key log(padded_to - length): the exact
    weight of that many equal keys, and -inf when there are none. Raises ValueError when n exceeds
    `padded_to`.
    """
    if mask.shape[1] > padded_to:
        raise ValueError(f"{mask.shape[1]} text rows do not fit into padded_to={padded_to}; shorten the text")
    real = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -math.inf)
    zeros = (padded_to - mask.sum(dim=1, keepdim=True)).float().log()
    return rearrange(torch.cat([real, zeros], dim=1), "b n -> b 1 1 n")


def rope_axes(head_dim: int) -> tuple[int, int, int]:
    """How many of a head's channels turn with the frame, the row and the column: Wan's split (44, 42, 42 of
    128)."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


def rope_angles(
    size: tuple[int, int, int], head_dim: int, *, first_frame: int = 0, device: torch.device | None = None
) -> Float[Tensor, "n p"]:
    """By what angle every channel pair of every token turns, for f·h·w tokens in (f, h, w) order.

    Pair i of an axis with d channels turns by position · 10000^(-2i/d). Rotary embedding: Su et al. 2021;
    frames are counted from `first_frame`, so a later stretch of a video keeps its place.
    """
    starts, angles = (first_frame, 0, 0), []
    for axis, channels in enumerate(rope_axes(head_dim)):
        pairs = torch.arange(0, channels, 2, dtype=torch.float64, device=device)
        places = torch.arange(size[axis], dtype=torch.float64, device=device) + starts[axis]
        along = torch.outer(places, 10000.0 ** (-pairs / max(channels, 1)))
        shape = [1, 1, 1, along.shape[1]]
        shape[axis] = size[axis]
        angles.append(along.view(shape).expand(*size, -1))
    return rearrange(torch.cat(angles, dim=-1), "f h w p -> (f h w) p")


def rope_tables(
    size: tuple[int, int, int], head_dim: int, *, first_frame: int = 0, device: torch.device | None = None
) -> Float[Tensor, "2 n p"]:
    """Cosines and sines of `rope_angles`, computed in fp64 and kept in fp32."""
    angles = rope_angles(size, head_dim, first_frame=first_frame, device=device)
    return torch.stack([angles.cos(), angles.sin()]).float()


def rotate(x: Float[Tensor, "b n h d"], tables: Float[Tensor, "2 n p"]) -> Float[Tensor, "b n h d"]:
    """Turn adjacent channel pairs (x₂ᵢ, x₂ᵢ₊₁) by each token's angles, in fp32; the result has the dtype of
    x."""
    return (rotate_real if torch.compiler.is_compiling() else rotate_complex)(x, tables)


def rotate_real(x: Float[Tensor, "b n h d"], tables: Float[Tensor, "2 n p"]) -> Float[Tensor, "b n h d"]:
    """`rotate` in real numbers: what a compiler can fuse with its neighbours."""
    cos, sin = rearrange(tables, "two n p -> two n 1 p")
    left, right = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([left * cos - right * sin, left * sin + right * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)


def rotate_complex(x: Float[Tensor, "b n h d"], tables: Float[Tensor, "2 n p"]) -> Float[Tensor, "b n h d"]:
    """`rotate` as one complex product: without a compiler five to ten times as fast as in real numbers."""
    turn = torch.complex(*tables).unsqueeze(1)
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention with biases, and an RMS norm over ALL channels of queries and of keys (as Wan).

    `keys_values` is split off, so keys and values of a prompt can be computed once and used at every step.
    """

    def __init__(self, heads: int, head_dim: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        width = heads * head_dim
        self.heads, self.head_dim = heads, head_dim
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.query_norm, self.key_norm = nn.RMSNorm(width, eps=eps), nn.RMSNorm(width, eps=eps)

    def queries(
        self, x: Float[Tensor, "b n c"], *, rope: Float[Tensor, "2 n p"] | None = None
    ) -> Float[Tensor, "b h n d"]:
        """Normalised and, where `rope` is given, rotated queries."""
        return self._normed_heads(self.query(x), self.query_norm, rope)

    def keys_values(
        self, x: Float[Tensor, "b m c"], *, rope: Float[Tensor, "2 m p"] | None = None
    ) -> tuple[Float[Tensor, "b h m d"], Float[Tensor, "b h m d"]]:
        """Normalised, rotated keys, and values."""
        value = rearrange(self.value(x), "b m (h d) -> b h m d", h=self.heads)
        return self._normed_heads(self.key(x), self.key_norm, rope), value

    def _normed_heads(self, x: Tensor, norm: nn.RMSNorm, rope: Tensor | None) -> Tensor:
        # Under autocast x is bf16 and the weight fp32: norm and rotation are then done in fp32, and rounded
        # once.
        heads = rearrange(norm(x.to(norm.weight.dtype)), "b n (h d) -> b n h d", h=self.heads)
        return (heads if rope is None else rotate(heads, rope)).to(x.dtype).transpose(1, 2)

    def forward(
        self,
        query: Float[Tensor, "b h n d"],
        key: Float[Tensor, "b h m d"],
        *,
        value: Float[Tensor, "b h m d"],
        bias: Float[Tensor, "#b 1 1 m"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Attend and project back to the width of the model."""
        return self.out(rearrange(attend(query, key, value=value, bias=bias), "b h n d -> b n (h d)"))
