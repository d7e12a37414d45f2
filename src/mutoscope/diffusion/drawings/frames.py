"""Drawings of frames and their noise: `noise`, `prior`, `frequency`, `pyramid` and `known`."""

import math
from typing import get_args

import torch
from einops import rearrange
from torch import Tensor

from mutoscope.diffusion.drawings.figure import Curve, Curves, Figure, Heat
from mutoscope.diffusion.frequency import LowPass, Shape, blended
from mutoscope.diffusion.known import Known, shrunk
from mutoscope.diffusion.noise import draw, stream
from mutoscope.diffusion.prior import Independent, Mixed, Prior, Progressive, Reuse
from mutoscope.diffusion.pyramid import block_noise, jump, stages, up
from mutoscope.diffusion.schedule import STRAIGHT

FRAMES = 16


def noise() -> Figure:
    """three seeds' noise, whatever the batch; and that seeds and their streams have nothing in common."""
    films = draw([0, 1, 2], (1, 4, 12, 12))
    mosaic = rearrange(films, "b 1 f h w -> (b h) (f w)")
    seeds = [0, 1, 2, 3]
    many = draw([*seeds, *(stream(seed, "churn") for seed in seeds)], (4, 16, 16, 16))
    flat = rearrange(many, "b c f h w -> b (c f h w)").double()
    place = torch.linspace(-4, 4, 33, dtype=torch.float64)
    share = torch.histc(flat, 32, -4, 4) / flat.numel() * 4
    normal = torch.exp(-(place**2) / 2) / math.sqrt(2 * math.pi)
    return Figure(
        "Noise: a seed is a film, and unrelated to every other seed and stream",
        [
            Heat("four frames of three seeds", "frame", "seed", mosaic, -3, 3, square=True, tile=12),
            Heat(
                "correlation of 4 seeds, 4 streams",
                "sample",
                "sample",
                torch.corrcoef(flat),
                -1,
                1,
                square=True,
            ),
            Curves(
                "values",
                "value",
                "density",
                [
                    Curve("standard normal", place, normal),
                    Curve("drawn", (place[1:] + place[:-1]) / 2, share, "dots"),
                ],
            ),
        ],
    )


def prior() -> Figure:
    """which frames share noise: the covariance of every prior, and a line of pixels of such noise."""
    priors = {
        "Independent": Independent(),
        "Mixed(1)": Mixed(1.0),
        "Progressive(2)": Progressive(2.0),
        "Reuse(8, 2)": Reuse(8, 2),
    }
    tables = [
        Heat(name, "frame", "frame", each.covariance(FRAMES), square=True) for name, each in priors.items()
    ]
    lines = [
        Heat("its noise", "frame", "pixel", _line_of_pixels(each), -3, 3, square=True)
        for each in priors.values()
    ]
    return Figure("Priors: covariance between frames, and noise drawn with it", [*tables, *lines], across=4)


def _line_of_pixels(each: Prior) -> Tensor:
    return rearrange(each.draw([5], (1, FRAMES, FRAMES, 1)), "1 1 f h 1 -> h f")


def frequency() -> Figure:
    """which frequencies of the last round's noise FreeInit keeps, and what is left of the variance."""
    size, place = (32, 64, 64), torch.arange(33, dtype=torch.float64) / 64
    masks = {shape: LowPass(shape)(size) for shape in get_args(Shape)}
    planes = [
        Heat(shape, "over space, 0 in the middle", "over time", torch.fft.fftshift(masks[shape][:, 0]))
        for shape in ("butterworth", "gaussian")
    ]
    along = [Curve(shape, place, mask[0, 0, :33]) for shape, mask in masks.items()]
    fresh = [Curve("", place, (1 - each.y**2).sqrt(), "dashes", n) for n, each in enumerate(along)]
    left = [Curve(f"{each.name}, 1 - L", place, each.y**2 + (1 - each.y) ** 2) for each in along[:2]]
    left.append(Curve("any, as here", place, _power(masks["gaussian"])[0, 0, :33], "dashes", 7))
    return Figure(
        "FreeInit: which frequencies of the last round stay, and the variance of what is made",
        [
            *planes,
            Curves("kept L, fresh (dashes)", "cycles a pixel", "factor", [*along, *fresh]),
            Curves("variance of the mix", "cycles a pixel", "variance", left),
        ],
        across=4,
    )


def _power(low: Tensor) -> Tensor:
    """The variance of every frequency of blended white films, from what becomes of one pixel of each."""
    point = torch.zeros(1, 1, *low.shape, dtype=torch.float64)
    point[..., 0, 0, 0] = 1
    parts = (blended(point, 0 * point, low=low), blended(0 * point, point, low=low))
    return torch.stack([torch.fft.fftn(part[0, 0]).abs() ** 2 for part in parts]).sum(dim=0)


def pyramid() -> Figure:
    """how a jump between sizes keeps noise white, and the times that a course of three stages passes."""
    t = torch.ones(1, 1, dtype=torch.float64)
    small = rearrange(torch.eye(4, dtype=torch.float64), "n (h w) -> n 1 1 h w", h=2)
    white = rearrange(torch.eye(16, dtype=torch.float64), "n (h w) -> n 1 1 h w", h=4)
    parts = {
        "noise of repeated pixels": up(small),
        "block noise": block_noise(white),
        "both, after a jump at t = 1": torch.cat(
            [jump(small, 0 * up(small), t=t), jump(0 * white[:, ..., :2, :2], white, t=t)]
        ),
    }
    tables = [
        Heat(name, "pixel, block by block", "pixel", _covariance(film), -1, 1, square=True)
        for name, film in parts.items()
    ]
    course = stages(3)
    walks = [
        Curve(
            f"1/{2 ** (2 - n)} of the size",
            torch.tensor([n, n + 1]) / 3,
            torch.tensor([each.start, each.end]),
        )
        for n, each in enumerate(course)
    ]
    return Figure(
        "From size to size: what repeated pixels share, block noise takes away",
        [*tables, Curves("time over three stages", "share of the course", "t", walks)],
        across=4,
    )


def _covariance(films: Tensor) -> Tensor:
    """Of all pixels, in the order of their blocks, from what is made of unit films."""
    pixels = rearrange(films, "n 1 1 (h y) (w x) -> n (h w y x)", y=2, x=2)
    return pixels.T @ pixels


def known() -> Figure:
    """what a network sees beside the noisy film, where frames or a small version of the film are known."""
    film, fresh = _passing(), draw([3], (1, 6, 12, 12), dtype=torch.float64)
    noisy = STRAIGHT.level(torch.full((1, 6), 0.7, dtype=torch.float64)).mix(film, fresh)
    ends = Known.frames(film, torch.tensor([[True, False, False, False, False, True]]))
    little = torch.full((1,), 0.2, dtype=torch.float64)
    told = {
        "first and last frame": ends,
        "the same, noisy (t = 0.2)": ends.noised(
            little, draw([4], (1, 6, 12, 12)).double(), schedule=STRAIGHT
        ),
        "all of it, a quarter of the size": Known.small(shrunk(film, 4), height=12, width=12),
    }
    return Figure(
        "Known: the channels of a network, from the top: the noisy film, what is known of it, where",
        [
            Heat(
                name,
                "frame",
                "channel",
                _channels(_seen(each, noisy)),
                -2,
                2,
                square=True,
                tile=12,
            )
            for name, each in told.items()
        ],
    )


def _passing() -> Tensor:
    """A spot that crosses the picture in six frames."""
    place = torch.arange(12, dtype=torch.float64)
    middle = rearrange(torch.linspace(1, 10, 6, dtype=torch.float64), "f -> f 1 1")
    square = (rearrange(place, "w -> 1 1 w") - middle) ** 2 + (rearrange(place, "h -> 1 h 1") - 5.5) ** 2
    return rearrange(3 * torch.exp(-square / 8) - 1, "f h w -> 1 1 f h w")


def _seen(known: Known, noisy: Tensor) -> Tensor:
    return torch.cat([known.placed(noisy), *known.told(noisy)], dim=1)


def _channels(film: Tensor) -> Tensor:
    return rearrange(film, "1 c f h w -> (c h) (f w)")
