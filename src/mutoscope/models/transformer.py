"""The denoising network: a transformer over the patches of a video (Wan; after DiT, Peebles & Xie 2023).

    tokens = patches of the noisy latent, in (f, h, w) order
    block:  x += gate · attention(norm(x) · (1 + scale) + shift)        every token looks at every token
            x += attention(norm(x), text)                               and at the words
            x += gate · ffn(norm(x) · (1 + scale) + shift)
    flow   = linear(norm(x) · (1 + scale) + shift), put back as patches

Shift, scale and gate come from the diffusion time. A time may belong to a whole sample or to each frame; it
is never computed per token. What depends on the prompt alone (keys and values of the words) can be computed
once: `Transformer.remember`. Weights fit `WanTransformer3DModel` of diffusers, see
`checkpoints/wan_transformer.py`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mutoscope.models.activation import gelu
from mutoscope.models.attention import Attention, merged_padding_bias, rope_tables
from mutoscope.models.text import Text


class TransformerConfig(BaseModel):
    """The shape of a transformer. The width of the model is heads · head_dim."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heads: int = Field(default=4, gt=0)
    head_dim: int = Field(default=64, gt=0, multiple_of=2)
    in_channels: int = Field(default=16, gt=0)
    out_channels: int = Field(default=16, gt=0)
    text_dim: int = Field(default=256, gt=0)
    freq_dim: int = Field(default=256, gt=0, multiple_of=2)
    ffn_dim: int = Field(default=1024, gt=0)
    layers: int = Field(default=8, gt=0)
    patch_size: tuple[int, int, int] = (1, 1, 1)
    cross_attn_norm: bool = True
    qk_norm: Literal["rms_norm_across_heads"] = "rms_norm_across_heads"
    eps: float = Field(default=1e-6, gt=0)
    rope_max: int = Field(default=1024, gt=0)

    @property
    def width(self) -> int:
        return self.heads * self.head_dim


@dataclass(frozen=True)
class TextMemory:
    """What the blocks need of the words: per block keys and values "b h m d", and score biases "b 1 1 m"."""

    keys: tuple[Float[Tensor, "b h m d"], ...]
    values: tuple[Float[Tensor, "b h m d"], ...]
    bias: Float[Tensor, "b 1 1 m"]


class Transformer(nn.Module):
    """Noisy latents, times and words to the flow (noise - clean)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.patches = Patches(config)
        self.time = TimeEmbedding(config.freq_dim, config.width)
        self.text = nn.Sequential(
            nn.Linear(config.text_dim, config.width),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.width, config.width),
        )
        blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        # A list of modules does not know what they are; whoever loops over these should.
        self.blocks: Iterable[Block] = blocks  # type: ignore[assignment]
        self.modulation = nn.Parameter(torch.randn(1, 2, config.width) / config.width**0.5)
        self.head = nn.Linear(config.width, config.out_channels * math.prod(config.patch_size))
        self.checkpointing = False
        self._initialise()

    def _initialise(self) -> None:
        """Wan's start: Xavier matrices, zero biases, N(0, 0.02) in the time and text networks, a head of
        zeros."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in (self.time.first, self.time.second, *self.text):
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(self.head.weight)

    def remember(self, text: Text) -> TextMemory:
        """Everything the blocks compute from the words alone, to be given to `forward` in place of the text.

        The zero rows up to `text.padded_to` become one key with a bias, see `merged_padding_bias`.
        """
        rows = F.pad(text.rows.to(self.head.weight.dtype), (0, 0, 0, 1))
        words = self.text(rows)
        pairs = [block.cross.keys_values(words) for block in self.blocks]
        keys, values = zip(*pairs, strict=True)
        return TextMemory(keys, values, merged_padding_bias(text.mask, text.padded_to))

    def forward(
        self,
        noisy: Float[Tensor, "b c f h w"],
        t: Float[Tensor, "b _"],
        *,
        text: Text | TextMemory,
        first_frame: int = 0,
    ) -> Float[Tensor, "b out f h w"]:
        """Predict the flow, in the dtype of `noisy`; out_channels are those of `noisy` unless configured
        otherwise.

        Args:
            noisy: latents; f, h, w multiples of the patch size.
            t: times in [0, 1], 0 clean and 1 noise: "b 1", one for each sample, or "b f", one for each frame.
            Frames
                inside one patch share a time (the first one's is taken).
            text: the words, or what `remember` made of them.
            first_frame: where the first latent frame stands in the whole video, in patches.
        """
        memory = self.remember(text) if isinstance(text, Text) else text
        size = self._grid(noisy, t, first_frame)
        time = self.time(t[:, :: self.config.patch_size[0]])
        modulation = self.time.modulation(time)
        rope = rope_tables(size, self.config.head_dim, first_frame=first_frame, device=noisy.device)
        x = self.patches(noisy)
        for index, block in enumerate(self.blocks):
            words = (memory.keys[index], memory.values[index], memory.bias)
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, modulation, rope=rope, words=words, use_reentrant=False)
            else:
                x = block(x, modulation, rope=rope, words=words)
        shift, scale = (self.modulation + rearrange(time, "b f c -> b f 1 c")).float().unbind(2)
        flow = self.head(modulated_norm(x, shift, scale=scale, eps=self.config.eps).to(x.dtype))
        return self.patches.back(flow, size).to(noisy.dtype)

    def compile_blocks(self) -> "Transformer":
        """Compile one block for all of them, so that the wait does not grow with the number of layers.

        Each shape gets code by itself: sizes are few, and code for one size is the fastest.
        """
        for block in self.blocks:
            block.compile(dynamic=False)
        return self

    def _grid(self, noisy: Tensor, t: Tensor, first_frame: int) -> tuple[int, int, int]:
        """How many patches lie along f, h and w; says so if something does not fit (ValueError)."""
        f, h, w = noisy.shape[2:]
        p, q, r = self.config.patch_size
        if f % p or h % q or w % r:
            raise ValueError(f"latents of {f}x{h}x{w} do not divide into patches of {p}x{q}x{r}")
        if t.ndim != 2 or t.shape[1] not in (1, f):
            raise ValueError(
                f"times have shape {tuple(t.shape)}; needed is (batch, 1) or (batch, frames={f})"
            )
        if max(first_frame + f // p, h // q, w // r) > self.config.rope_max:
            raise ValueError(
                f"positions go up to rope_max={self.config.rope_max}; {f}x{h}x{w} latents need more"
            )
        return f // p, h // q, w // r

    def lower_precision(self, dtype: torch.dtype = torch.bfloat16) -> "Transformer":
        """Cast the weights in place, except those that public code keeps in fp32 (time network, modulation,
        norms)."""
        keep = {id(p) for p in self.time.parameters()} - {id(p) for p in self.time.project.parameters()}
        keep |= {id(p) for block in self.blocks for p in block.cross_norm.parameters()}
        for name, parameter in self.named_parameters():
            if id(parameter) not in keep and not name.endswith("modulation"):
                parameter.data = parameter.data.to(dtype)
        return self


class Patches(nn.Module):
    """Latents to tokens and back. The weight has the shape of the convolution it is, but is used as a
    matrix."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.size = config.patch_size
        self.weight = nn.Parameter(torch.empty(config.width, config.in_channels, *config.patch_size))
        self.bias = nn.Parameter(torch.zeros(config.width))
        nn.init.xavier_uniform_(self.weight.data.flatten(1))

    def forward(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b n d"]:
        """Tokens in (f, h, w) order, w fastest."""
        p, q, r = self.size
        pixels = rearrange(latents, "b c (f p) (h q) (w r) -> b (f h w) (c p q r)", p=p, q=q, r=r)
        tokens = F.linear(pixels.to(self.weight.dtype), self.weight.flatten(1), self.bias)
        return tokens.to(self.weight.dtype)  # under autocast, too, what the blocks add up stays in fp32

    def back(self, tokens: Float[Tensor, "b n d"], size: tuple[int, int, int]) -> Float[Tensor, "b c f h w"]:
        """Each token's numbers, channel fastest, back to where its patch was."""
        (f, h, w), (p, q, r) = size, self.size
        pattern = "b (f h w) (p q r c) -> b c (f p) (h q) (w r)"
        return rearrange(tokens, pattern, f=f, h=h, w=w, p=p, q=q, r=r)


class TimeEmbedding(nn.Module):
    """Diffusion time as a sinusoid of 1000·t through a small network, in fp32 whatever the rest is computed
    in."""

    def __init__(self, freq_dim: int, width: int) -> None:
        super().__init__()
        self.freq_dim = freq_dim
        self.first, self.second = nn.Linear(freq_dim, width), nn.Linear(width, width)
        self.project = nn.Linear(width, 6 * width)

    def forward(self, t: Float[Tensor, "b f"]) -> Float[Tensor, "b f c"]:
        with torch.autocast(t.device.type, enabled=False):
            waves = sinusoid(1000 * t.float(), self.freq_dim)
            return self.second(F.silu(self.first(waves)))

    def modulation(self, time: Float[Tensor, "b f c"]) -> Float[Tensor, "b f 6 c"]:
        """Shift, scale and gate for attention, then for the feed-forward network; every block adds its own
        table."""
        with torch.autocast(time.device.type, enabled=False):
            six = self.project(F.silu(time.to(self.project.weight.dtype)))
        return rearrange(six, "b f (six c) -> b f six c", six=6).float()


class Block(nn.Module):
    """Self-attention, attention to the words, feed-forward network; the first and last modulated by time."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, self.eps = config.width, config.eps
        self.self_attention = Attention(config.heads, config.head_dim, eps=config.eps)
        self.cross_norm = nn.LayerNorm(width, eps=config.eps) if config.cross_attn_norm else nn.Identity()
        self.cross = Attention(config.heads, config.head_dim, eps=config.eps)
        self.ffn_in, self.ffn_out = nn.Linear(width, config.ffn_dim), nn.Linear(config.ffn_dim, width)
        self.modulation = nn.Parameter(torch.randn(1, 6, width) / width**0.5)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        modulation: Float[Tensor, "b f 6 c"],
        *,
        rope: Float[Tensor, "2 n p"],
        words: tuple[Tensor, Tensor, Tensor],
    ) -> Float[Tensor, "b n c"]:
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.modulation + modulation).unbind(2)
        normed = modulated_norm(x, shift, scale=scale, eps=self.eps).to(x.dtype)
        key, value = self.self_attention.keys_values(normed, rope=rope)
        mixed = self.self_attention(self.self_attention.queries(normed, rope=rope), key, value=value)
        x = gated_sum(x, mixed, gate=gate)
        x = x + self._read(self.cross_norm(x.float()).to(x.dtype), words)
        normed = modulated_norm(x, ffn_shift, scale=ffn_scale, eps=self.eps).to(x.dtype)
        return gated_sum(x, self.ffn_out(gelu(self.ffn_in(normed))), gate=ffn_gate)

    def _read(self, x: Tensor, words: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        key, value, bias = words
        return self.cross(self.cross.queries(x), key, value=value, bias=bias)


def modulated_norm(
    x: Float[Tensor, "b n c"], shift: Float[Tensor, "b f c"], *, scale: Float[Tensor, "b f c"], eps: float
) -> Float[Tensor, "b n c"]:
    """norm(x) · (1 + scale) + shift in fp32, over f equal stretches of tokens (f = 1: the whole sample)."""
    batch, stretches, width = shift.shape
    if batch == stretches == 1:  # one scale for everything: it can be the norm's own weight
        return F.layer_norm(x.float(), (width,), 1 + scale[0, 0], shift[0, 0], eps)
    normed = rearrange(F.layer_norm(x.float(), (width,), eps=eps), "b (f n) c -> b f n c", f=stretches)
    return torch.addcmul(shift.unsqueeze(2), normed, 1 + scale.unsqueeze(2)).flatten(1, 2)


def gated_sum(
    x: Float[Tensor, "b n c"], update: Float[Tensor, "b n c"], *, gate: Float[Tensor, "b f c"]
) -> Float[Tensor, "b n c"]:
    """x + gate · update in fp32, over f equal stretches of tokens; the result has the dtype of x."""
    update = rearrange(update, "b (f n) c -> b f n c", f=gate.shape[1])
    return (x + (update * gate.unsqueeze(2)).flatten(1, 2)).to(x.dtype)


def sinusoid(times: Float[Tensor, "b f"], channels: int) -> Float[Tensor, "b f c"]:
    """cos and then sin of times · 10000^(-2i/channels), in fp32."""
    half = torch.arange(channels // 2, dtype=torch.float32, device=times.device)
    angles = times.unsqueeze(-1) * torch.exp(-math.log(10000) * half / (channels // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
