"""The probe: a small network that looks at a clip and says what it shows.

One trunk of space-time convolutions on frames and frame differences, one answer per attribute (who, doing
what, in which colour, where, in which weather and light, drawn how, going which way), and one short vector
of features for the Fréchet distance. It is trained on clips whose truth is known and then asked about
generated ones.

    clip of any size, length, rate  ->  views: 96x64, 13 frames at 12 fps  ->  probe  ->  answers, mean over
    the views

A longer clip is looked at in several views, evenly spaced from its first frame to its last; a shorter one
holds its last frame. On disk: `config.json` and `model.safetensors` (bfloat16).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mutoscope.video import Refusal, Video

__all__ = ["Answers", "Probe", "ProbeConfig", "load_probe", "look", "save_probe", "views"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
TOGETHER = 8  # clips in one batch


class ProbeConfig(BaseModel):
    """What the probe can answer and how it looks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: dict[str, tuple[str, ...]] = Field(description="attribute -> the words it may take, at least two")
    frames: int = Field(default=13, ge=1, description="frames of a view")
    size: tuple[int, int] = Field(default=(96, 64), description="width and height of a view in pixels")
    fps: float = Field(default=12.0, gt=0, description="frames per second of a view")
    widths: tuple[int, int, int, int] = Field(
        (24, 48, 96, 144), description="channels from the finest scale on"
    )
    features: int = Field(default=64, ge=1, description="length of the feature vector")

    @classmethod
    def of(cls, words: dict[str, tuple[str, ...]], **settings) -> "ProbeConfig":
        """For a vocabulary: an attribute of a single word is no question."""
        return cls(words={name: choices for name, choices in words.items() if len(choices) > 1}, **settings)


@dataclass(frozen=True)
class Answers:
    """What the probe says about `b` clips: `probabilities` of words, "b words" each, and `features` "b d"."""

    config: ProbeConfig
    probabilities: dict[str, Tensor]
    features: Float[Tensor, "b d"]

    def words(self) -> list[dict[str, str]]:
        """The likeliest word of every attribute, one mapping a clip."""
        best = {name: chances.argmax(1).tolist() for name, chances in self.probabilities.items()}
        return [
            {n: self.config.words[n][places[k]] for n, places in best.items()}
            for k in range(len(self.features))
        ]

    @classmethod
    def join(cls, parts: Sequence["Answers"]) -> "Answers":
        """Several answers of one probe as one."""
        names = parts[0].probabilities
        chances = {name: torch.cat([part.probabilities[name] for part in parts]) for name in names}
        return cls(parts[0].config, chances, torch.cat([part.features for part in parts]))


class ResidualBlock(nn.Module):
    """Space, then time: (1,3,3) and (3,1,1) convolutions past a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _norm(width)
        self.space = nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1))
        self.second = _norm(width)
        self.time = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        inner = self.space(F.silu(self.first(x)))
        return x + self.time(F.silu(self.second(inner)))


class Probe(nn.Module):
    """The network; `forward` takes views, `look` takes clips."""

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c, d = config.widths
        self.conv_in = nn.Conv3d(6, a, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.trunk = nn.Sequential(
            nn.SiLU(),
            nn.Conv3d(a, b, 3, 2, 1),
            ResidualBlock(b),
            nn.Conv3d(b, c, 3, 2, 1),
            ResidualBlock(c),
            ResidualBlock(c),
            nn.Conv3d(c, d, (1, 3, 3), (1, 2, 2), (0, 1, 1)),
            ResidualBlock(d),
            _norm(d),
            nn.SiLU(),
        )
        self.summary = nn.Linear(2 * d, config.features)
        self.heads = nn.ModuleDict({n: nn.Linear(config.features, len(w)) for n, w in config.words.items()})

    def forward(self, x: Float[Tensor, "b 3 f h w"]) -> tuple[dict[str, Tensor], Float[Tensor, "b d"]]:
        """Logits by attribute, "b words" each, and the features, of views in [-1, 1]."""
        moves = torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, 1:] - x[:, :, :-1]], 2)
        seen = self.trunk(self.conv_in(torch.cat([x, moves], 1)))
        # the mean tells how much, the maximum whether at all: a figure is a small share of the picture
        pooled = torch.cat([reduce(seen, "b c f h w -> b c", kind) for kind in ("mean", "max")], 1)
        features = self.summary(pooled)
        return {name: head(F.silu(features)) for name, head in self.heads.items()}, features


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, width // 12), width)


def views(
    clip: Float[Tensor, "3 f h w"], *, fps: float, config: ProbeConfig
) -> Float[Tensor, "n 3 f2 h2 w2"]:
    """What the probe gets to see of a clip in [-1, 1] of any size, length and rate: at least one view."""
    clip = _at_rate(clip, config.fps / fps)
    clip = _at_size(clip, config.size)
    lacking = config.frames - clip.shape[1]
    if lacking > 0:
        clip = torch.cat([clip, repeat(clip[:, -1], "c h w -> c f h w", f=lacking)], 1)
    number = max(1, round(clip.shape[1] / config.frames))
    starts = torch.linspace(0, clip.shape[1] - config.frames, number).round().long().tolist()
    return torch.stack([clip[:, start : start + config.frames] for start in starts])


def _at_rate(clip: Tensor, ratio: float) -> Tensor:
    """The nearest frame of every moment at another frame rate."""
    if abs(ratio - 1) < 1e-6:
        return clip
    number = max(1, int((clip.shape[1] - 1) * ratio + 1e-6) + 1)
    places = (torch.arange(number) / ratio).round().long().clamp(max=clip.shape[1] - 1)
    return clip[:, places.to(clip.device)]


def _at_size(clip: Tensor, size: tuple[int, int]) -> Tensor:
    width, height = size
    if clip.shape[-2:] == (height, width):
        return clip.float()
    frames = rearrange(clip.float(), "c f h w -> f c h w")
    frames = F.interpolate(frames, (height, width), mode="bilinear", antialias=True)
    return rearrange(frames, "f c h w -> c f h w")


@torch.no_grad()
def look(probe: Probe, clips: Iterable[Video] | Float[Tensor, "b 3 f h w"], *, fps: float = 12.0) -> Answers:
    """What the probe says about clips: probabilities and features, each the mean over a clip's views.

    `fps` is the rate of clips given as a tensor in [-1, 1]; a `Video` knows its own.

    Raises:
        Refusal: no clips.
    """
    probe.eval()
    parts, waiting = [], []
    for clip in clips:
        pixels, rate = (clip.tensor(), clip.fps) if isinstance(clip, Video) else (clip, fps)
        waiting.append(views(pixels, fps=rate, config=probe.config))
        if len(waiting) == TOGETHER:
            parts.append(_answers(probe, waiting))
            waiting = []
    parts += [_answers(probe, waiting)] if waiting else []
    if not parts:
        raise Refusal("no clips to look at; give the probe at least one")
    return Answers.join(parts)


def _answers(probe: Probe, seen: list[Tensor]) -> Answers:
    """One batch of the views of several clips, and the mean over each clip's own."""
    logits, features = probe(torch.cat(seen).to(next(probe.parameters()).device))
    numbers = [len(clip) for clip in seen]

    def mean(values: Tensor) -> Tensor:
        return torch.stack([part.mean(0) for part in values.float().cpu().split(numbers)])

    return Answers(probe.config, {n: mean(v.float().softmax(1)) for n, v in logits.items()}, mean(features))


def save_probe(probe: Probe, folder: str | Path) -> Path:
    """Write `config.json` and `model.safetensors` (bfloat16) into the folder, and give it back."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: weight.detach().to("cpu", torch.bfloat16).contiguous()
        for name, weight in probe.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(probe.config.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return folder


def load_probe(folder: str | Path) -> Probe:
    """A probe from its folder, in float32 and ready to look.

    Raises:
        Refusal: the folder holds no probe, or a broken one.
    """
    folder = Path(folder)
    try:
        config = ProbeConfig.model_validate(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        probe = Probe(config)
        probe.load_state_dict({n: w.float() for n, w in load_file(folder / WEIGHTS).items()})
    except FileNotFoundError as error:
        raise Refusal(
            f"no probe in {folder}: {CONFIG} and {WEIGHTS} are needed; train one (a few minutes)"
        ) from error
    except (OSError, ValueError, ValidationError, SafetensorError, RuntimeError) as error:
        raise Refusal(
            f"the probe in {folder} cannot be read ({str(error).splitlines()[0]}); train it anew"
        ) from error
    return probe.eval()
