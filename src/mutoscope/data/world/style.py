"""The four ways a scene may be drawn, as a last pass over the finished picture.

flat illustration: as painted. pencil sketch: grey graphite on paper, contours where tones change, the coat
in coloured pencil. neon: a dark room where only the contours glow, in the colours of what they bound. paper
cut-out: few tones, every layer throwing a shadow on the one behind (the shadows are cast while the layers
are put together).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

PAPER = (0.965, 0.955, 0.92)
SHADES = 8.0  # of paper
CAST = {"paper cut-out": 0.45}  # how dark the shadow is that one layer throws on the next


def contours(picture: Tensor) -> Tensor:
    """Strength of the local change of tone per channel, "n 3 h w", from central differences."""
    padded = F.pad(picture, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return torch.hypot(across, down)


def hatching(height: int, width: int, *, device) -> Tensor:
    """Slanted pencil strokes that stay with the paper, "h w" in [-1, 1]."""
    y = torch.arange(height, device=device)[:, None] / height
    x = torch.arange(width, device=device)[None, :] / height
    return torch.sin(2 * torch.pi * 9 * (x + 0.6 * y))


def pencil(picture: Tensor, figure: Tensor) -> Tensor:
    """Graphite on paper; `figure` ("n 1 h w") is where colour stays."""
    tone = picture.mean(1, keepdim=True)
    strokes = hatching(*picture.shape[-2:], device=picture.device)
    shade = 0.30 + 0.70 * tone + 0.045 * strokes * (1 - tone)
    paper = torch.tensor(PAPER, device=picture.device)[:, None, None]
    chroma = picture - tone
    drawn = shade * paper + chroma * (0.30 + 0.75 * figure)
    edges = contours(picture).amax(1, keepdim=True)
    return drawn - (edges * 0.85).clamp(max=0.5)


def neon(picture: Tensor, figure: Tensor) -> Tensor:
    """Glowing contours in the dark."""
    # the root lets faint contours glow too: those of a night, those in the fog
    edges = contours(picture).amax(1, keepdim=True).clamp(0.004, 0.8)
    edges = torch.exp(0.7 * edges.log())  # not `** 0.7`: see gait
    hue = picture / picture.amax(1, keepdim=True).clamp(min=0.08)
    hue = (hue - 0.25 * hue.amin(1, keepdim=True)).clamp(0, 1)
    halo = F.avg_pool2d(edges, 5, stride=1, padding=2)
    ambient = torch.tensor((0.03, 0.02, 0.08), device=picture.device)[:, None, None]
    return (
        ambient
        + 0.10 * picture
        + hue * (1.5 * edges + 0.8 * halo) * (1 + 0.5 * figure)
        + 0.22 * figure * picture
    )


def cut_out(picture: Tensor, figure: Tensor) -> Tensor:
    """Coloured paper: few tones, a little grain."""
    height, width = picture.shape[-2:]
    tone = picture.mean(1, keepdim=True).clamp(min=1e-3)
    shade = ((tone.sqrt() * SHADES).round().clamp(min=0.6) / SHADES) ** 2  # finer where it is dark
    flat = (picture * shade / tone).clamp(0, 1)
    grain = hatching(height, width, device=picture.device) * torch.sin(
        torch.arange(height, device=picture.device)[:, None] * 2.1
    )
    return 0.25 * picture + 0.75 * flat + 0.012 * grain


PASSES = {"pencil sketch": pencil, "neon": neon, "paper cut-out": cut_out}


def redraw(
    picture: Float[Tensor, "b f 3 h w"], figure: Float[Tensor, "b f 1 h w"], *, style: str
) -> Float[Tensor, "b f 3 h w"]:
    """Finished pictures in [0, 1] in a style that has a pass; `figure` is where the subject is."""
    pages = PASSES[style](picture.flatten(0, 1), figure.flatten(0, 1))
    return pages.clamp_(0, 1).unflatten(0, picture.shape[:2])
