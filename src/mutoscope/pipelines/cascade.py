"""From a coarse film of pixels to a finer one, by U-Nets on pixels.

    between    every so many frames are known and held; the others are made
    sharpened  the film, shrunk again, must be the small one: reconstruction guidance (Ho et al. 2022,
               2204.03458, equation 8)
    Stage      a network that was trained to see a small version beside the noise, made a little noisy
               (cascades, Ho et al. 2021, 2106.15282); it has no sense of place, so any size will do

The first two need no network but the one that makes films.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.checkpoints.unet_folder import UNetModel
from mutoscope.diffusion.denoiser import Denoiser, NetworkDenoiser
from mutoscope.diffusion.guidance import ClassifierFree
from mutoscope.diffusion.known import Known
from mutoscope.diffusion.noise import draw, stream
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.prior import Fresh
from mutoscope.diffusion.reconstruction import Reconstruction, pooled
from mutoscope.diffusion.sampler import sample
from mutoscope.models.precision import Precision, default_device, fast_dtype
from mutoscope.pipelines.condition import Given, take
from mutoscope.pipelines.generate import Pipeline
from mutoscope.pipelines.networks import UNetNetworks
from mutoscope.pipelines.request import Request, asked
from mutoscope.pipelines.sampling import SAMPLERS
from mutoscope.video import Refusal, Video

__all__ = ["Stage", "between", "sharpened"]


def between(pipeline: Pipeline, film: Video, *, prompt: str, factor: int = 4, **settings: Any) -> Video:
    """The film with `factor` times the frame rate: its own frames, and new ones between them.

    settings: of the request, as for `Pipeline.generate`. Spans of the model's own length are made one after
    the other and share a frame. Raises Refusal for a film of one frame, or a model that sees too few.
    """
    reach = (pipeline.facts.frames - 1) // factor
    if len(film) < 2 or reach < 1:
        raise Refusal(
            f"a film of {len(film)} frames, a model of {pipeline.facts.frames}: there must be two frames to "
            f"put some between, and a model that sees {factor + 1}"
        )
    request = pipeline.request(
        prompt, size=film.size, fps=film.fps * factor, frames=factor * (len(film) - 1) + 1, **settings
    )
    ends = [*range(0, len(film) - 1, reach), len(film) - 1]
    made = [
        _span(pipeline, film.frames[first : last + 1], request, factor=factor, number=number)
        for number, (first, last) in enumerate(pairwise(ends))
    ]
    frames = torch.cat([made[0], *(pictures[1:] for pictures in made[1:])])
    return Video(frames, request.fps, pipeline.notes(request))


def _span(pipeline: Pipeline, pictures: Tensor, request: Request, *, factor: int, number: int) -> Tensor:
    frames = factor * (len(pictures) - 1) + 1
    given = Given(places=range(0, frames, factor), frames=pipeline.encode(pictures)[None])
    *_, last = take(pipeline, request, given, frames=frames, number=number)
    made = torch.cat(list(pipeline.decode(last.clean[0], request.model_copy(update={"frames": frames}))))
    made[::factor] = pictures
    return made


def sharpened(
    pipeline: Pipeline,
    film: Video,
    *,
    prompt: str,
    factor: int = 2,
    weight: float | None = None,
    **settings: Any,
) -> Video:
    """The film `factor` times as wide and high.

    weight: of reconstruction guidance; the number of pixels that one is shrunk from if not given, since that
    is how much weaker each of them feels what their mean lacks.
    """
    width, height = (factor * side for side in film.size)
    request = pipeline.request(
        prompt, size=(width, height), fps=film.fps, frames=len(film), **settings
    )
    shape = pipeline.latent_shape(request)
    if shape[2:] != (height, width):
        raise Refusal(f"size is {width}x{height}; this model makes films in steps of {shape[2:]}")
    denoiser = Reconstruction(
        pipeline.denoiser(request), pooled(factor), film.tensor()[None].to(pipeline.device),
        float(factor**2 if weight is None else weight),
    )  # fmt: skip
    told = pipeline.words(request)
    clean = _sampled(denoiser, request, shape=shape, condition=told, device=pipeline.device)
    return Video.from_tensor(clean[0].float(), fps=film.fps, notes=pipeline.notes(request))


@dataclass(frozen=True, eq=False)
class Stage:
    """A network trained on small versions, ready to enlarge films.

    factor: how much larger they become. noise: how noisy the small film is shown, as a time in [0, 1]; what
    it was trained with goes up to some level, and a little covers what a stage before got wrong.
    """

    model: UNetModel
    factor: int = 4
    noise: float = 0.1
    precision: Precision = "auto"

    def __call__(self, film: Video, *, prompt: str, **settings: Any) -> Video:
        """The film `factor` times as wide and high, a model's length of frames at a time."""
        width, height = (self.factor * side for side in film.size)
        facts = self.model.facts
        request = asked(prompt, facts, size=(width, height), fps=film.fps, frames=len(film), **settings)
        device = default_device()
        networks = UNetNetworks(
            self.model, dtype=fast_dtype(device, precision=self.precision), device=device, in_place=False
        )
        small = film.tensor()[None].to(device)
        spans = [small[:, :, start : start + facts.frames] for start in range(0, len(film), facts.frames)]
        made = [self._enlarged(networks, span, request, number=n) for n, span in enumerate(spans)]
        return Video.from_tensor(torch.cat(made, dim=2)[0].float(), fps=film.fps)

    def _enlarged(self, networks: UNetNetworks, small: Tensor, request: Request, *, number: int) -> Tensor:
        width, height = request.size
        process, schedule = self.model.facts.process, self.model.facts.process.noising()
        seed = stream(request.seed, f"span {number}")
        known = Known.small(small, height=height, width=width)
        shape = (small.shape[1], small.shape[2], height, width)
        level = torch.full((1,), self.noise, device=small.device)
        own = draw([stream(seed, "small")], shape, device=small.device)
        known = known.noised(level, own, schedule=schedule)
        denoiser = NetworkDenoiser(networks.network, schedule, process.prediction, dtype=networks.dtype)
        told = replace(networks.remember([request.prompt]), known=known)
        nothing = replace(networks.remember([request.negative]), known=known)
        guided = ClassifierFree(denoiser, request.guidance, negative=nothing)
        again = request.model_copy(update={"seed": seed})
        return _sampled(guided, again, shape=shape, condition=told, device=small.device)


def _sampled(
    denoiser: Denoiser,
    request: Request,
    *,
    shape: tuple[int, int, int, int],
    condition: Any,
    device: torch.device,
) -> Float[Tensor, "1 c f h w"]:
    """A film of the request's seed, all frames together."""
    fresh = Fresh([request.seed], shape, request.method.noise.prior(), device=device)
    noise = fresh.prior.draw(fresh.seeds, shape, device=device)
    plan = full_sequence(request.steps, shape[1])
    *_, last = sample(
        denoiser, noise, plan=plan, condition=condition, sampler=SAMPLERS[request.sampler], fresh=fresh
    )
    return last.clean
