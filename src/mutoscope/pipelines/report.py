"""Does a model show what it is asked: the report of `mutoscope evaluate agreement`.

`agreement_report` makes the films of prompts whose combinations were kept out of training and asks the
probe what it sees; beside each number stands what drawn clips of the same prompts reach, which is the
ceiling (bare, and through the autoencoder, which no latent model can pass). The Fréchet distance between
generated and drawn clips stands beside that between drawn and drawn clips of the same number. A generator:
a `Stage` after every film or batch, the report last.
"""

import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from mutoscope.data.world import Scene, draw
from mutoscope.evaluation.agreement import Agreement, Visibility, agreement, table, visibility
from mutoscope.evaluation.frechet import frechet_distance
from mutoscope.evaluation.probe import Answers, Probe, look
from mutoscope.media import contact_sheet
from mutoscope.models.autoencoder import Autoencoder
from mutoscope.pipelines.filmmaker import Filmmaker
from mutoscope.pipelines.reconstruction import rebuilt
from mutoscope.pipelines.request import Request
from mutoscope.pipelines.saved import Stage, save_report
from mutoscope.video import Refusal, Video

__all__ = ["AgreementReport", "agreement_report"]

COLUMNS = 7  # pictures of a clip on a sheet
TOGETHER = 4  # drawn clips made at a time


@dataclass(frozen=True)
class AgreementReport:
    """The answer to "does the film show the words".

    made: agreement of the generated clips. ceilings: of drawn clips of the same prompts, by name. frechet
    and floor: squared distances to drawn clips, of the generated ones and of other drawn ones, one a seed.
    hidden: attributes that the probe cannot read in a style, and which did not count. sheet: some of the
    films.
    """

    made: Agreement
    ceilings: dict[str, Agreement]
    frechet: list[float]
    floor: list[float]
    hidden: list[tuple[str, str]]
    seconds: float
    settings: dict[str, Any]
    sheet: UInt8[Tensor, "h w 3"] = field(repr=False)

    @property
    def ratio(self) -> float:
        """Mean distance of generated clips over the floor; NaN if not measured."""
        return fmean(self.frechet) / max(fmean(self.floor), 1e-12) if self.floor else math.nan

    def __str__(self) -> str:
        lines = [
            table(self.made, ceilings=self.ceilings),
            "",
            f"Fréchet distance to drawn clips: generated {_spread(self.frechet)}, drawn (the floor) "
            f"{_spread(self.floor)}, ratio {self.ratio:.2f}",
            f"{self.settings['clips']} films of {self.settings['prompts']} prompts in {self.seconds:.0f} s",
        ]
        if self.hidden:
            unseen = ", ".join(f"{name} in {style}" for style, name in self.hidden)
            why = "the probe cannot read it even in drawn clips (train it for longer)"
            lines.append(f"not counted, for {why}: {unseen}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "agreement": self.made.as_dict(),
            "ceilings": {name: one.as_dict() for name, one in self.ceilings.items()},
            "frechet": {
                "generated": self.frechet,
                "floor": self.floor,
                "ratio": self.ratio if self.floor else None,
            },
            "hidden": self.hidden,
            "seconds": self.seconds,
            "settings": self.settings,
        }

    def save(self, folder: str | Path) -> Path:
        """Write agreement.json, agreement.txt and agreement.png."""
        return save_report(folder, "agreement", facts=self.as_dict(), text=str(self), sheet=self.sheet)


def agreement_report(
    pipeline: Filmmaker,
    probe: Probe,
    *,
    prompts: Sequence[tuple[str, Scene]],
    seeds: Sequence[int] = (0, 1, 2),
    batch: int = 1,
    settings: Mapping[str, Any] | None = None,
    autoencoder: Autoencoder | None = None,
    pictures: int = 24,
) -> Iterator[Stage | AgreementReport]:
    """Film the prompts, once for every seed, and say how far they show what was asked; the report comes last.

    Args:
        pipeline: the model, of any family.
        probe: what looks at the films.
        prompts: such as `data.world.held_out_prompts()`: each with the scene that it asks for.
        seeds: of the repetitions; film i with seed s has the seed s * number of prompts + i.
        batch: films sampled together.
        settings: steps, guidance, size, frames, ... of `Pipeline.request`, where not the model's own.
        autoencoder: if given, drawn clips are also judged after it: what the model could reach at best.
        pictures: films on the contact sheet.

    Raises:
        Refusal: no prompts or no seeds.
    """
    if not prompts or not seeds:
        raise Refusal(
            f"{len(prompts)} prompts and {len(seeds)} seeds; an agreement needs at least one of each"
        )
    begun = time.monotonic()
    first, *_ = requests = _requests(pipeline, prompts, seeds=seeds, settings=settings or {})
    survey = _Survey(probe, prompts, first)
    drawn = yield from survey.drawn("drawn clips")
    again = []
    for seed in seeds:  # other skies, other trousers: the same words
        again.append((yield from survey.drawn(f"drawn clips, seed {seed}", shift=seed + 1)))
    legible = survey.legible([drawn, *again])
    ceilings = {"drawn": survey.judge([drawn, *again], legible=legible)}
    if autoencoder is not None:
        rebuilt = yield from survey.drawn("drawn clips through the autoencoder", through=autoencoder)
        ceilings["autoencoder"] = survey.judge([rebuilt], legible=legible)
    films, shown = [], set(_spaced(len(prompts), pictures))
    for k, seed in enumerate(seeds):
        wanted = requests[k * len(prompts) : (k + 1) * len(prompts)]
        keep = shown if k == 0 else set()
        films.append(
            (yield from survey.films(pipeline, wanted, batch=batch, what=f"films, seed {seed}", keep=keep))
        )
    enough = len(prompts) > 1  # a single feature vector has no covariance
    yield AgreementReport(
        made=survey.judge(films, legible=legible),
        ceilings=ceilings,
        frechet=[frechet_distance(one.features, drawn.features) for one in films if enough],
        floor=[frechet_distance(one.features, drawn.features) for one in again if enough],
        hidden=legible.hidden,
        seconds=time.monotonic() - begun,
        settings=_settings(first, prompts=len(prompts), seeds=seeds),
        sheet=survey.sheet(films[0]),
    )


def _requests(
    pipeline: Filmmaker,
    prompts: Sequence[tuple[str, Scene]],
    *,
    seeds: Sequence[int],
    settings: Mapping[str, Any],
) -> list[Request]:
    """All films of the first seed, then all of the next."""
    count = len(prompts)
    return [
        pipeline.request(text, **settings, seed=seed * count + i)
        for seed in seeds
        for i, (text, _) in enumerate(prompts)
    ]


class _Survey:
    """The probe's answers to drawn and generated clips of one list of prompts."""

    def __init__(self, probe: Probe, prompts: Sequence[tuple[str, Scene]], like: Request) -> None:
        self.probe, self.like = probe, like
        self.texts, self.scenes = [text for text, _ in prompts], [scene for _, scene in prompts]
        self.asked = [scene.words() for scene in self.scenes]
        self.kept: dict[int, Video] = {}

    def drawn(
        self, what: str, *, shift: int = 0, through: Autoencoder | None = None
    ) -> Generator[Stage, None, Answers]:
        """Answers to drawn clips of the prompts; `shift` changes what the words leave open."""
        parts = []
        for start in range(0, len(self.scenes), TOGETHER):
            scenes = [
                replace(s, seed=(s.seed + 7919 * shift) % 2**31)
                for s in self.scenes[start : start + TOGETHER]
            ]
            video = draw(scenes, frames=self.like.frames, size=self.like.size, fps=self.like.fps).video
            if through is not None:
                video = rebuilt(through, video)
            parts.append(look(self.probe, video, fps=self.like.fps))
            yield Stage(what, start + len(scenes), len(self.scenes))
        return Answers.join(parts)

    def films(
        self, pipeline: Filmmaker, requests: Sequence[Request], *, batch: int, what: str, keep: set[int]
    ) -> Generator[Stage, None, Answers]:
        """Answers to the films of the requests, one for each prompt; those numbered in `keep` are kept."""
        parts = []
        for number, film in enumerate(pipeline.films(requests, batch=batch)):
            parts.append(look(self.probe, [film]))
            if number in keep:
                self.kept[number] = film
            yield Stage(what, number + 1, len(requests))
        return Answers.join(parts)

    def legible(self, truths: list[Answers]) -> Visibility:
        """What can be seen in which style, measured on drawn clips."""
        told = [words for answers in truths for words in answers.words()]
        return visibility(told, self.asked * len(truths), words=self.probe.config.words)

    def judge(self, repetitions: list[Answers], *, legible: Visibility) -> Agreement:
        """Agreement of several clips of every prompt with what it asks."""
        return agreement(
            [words for answers in repetitions for words in answers.words()],
            self.asked * len(repetitions),
            words=self.probe.config.words,
            prompts=[*range(len(self.scenes))] * len(repetitions),
            counts=legible.counts,
        )

    def sheet(self, answers: Answers) -> UInt8[Tensor, "h w 3"]:
        """The kept films under their prompts, and what the probe saw instead of what was asked."""
        told, captions = answers.words(), []
        for number in self.kept:
            wrong = [f"{n}: {w}" for n, w in told[number].items() if w != self.asked[number].get(n)]
            captions.append(self.texts[number] + (f" [seen: {', '.join(wrong)}]" if wrong else ""))
        return contact_sheet(list(self.kept.values()), columns=COLUMNS, captions=captions)


def _spaced(count: int, wanted: int) -> list[int]:
    """At most `wanted` numbers below `count`, at even distances; at least one."""
    return torch.linspace(0, count - 1, max(1, min(count, wanted))).round().long().tolist()


def _settings(request: Request, *, prompts: int, seeds: Sequence[int]) -> dict[str, Any]:
    common = request.model_dump(mode="json", exclude={"prompt", "seed"})
    return {**common, "prompts": prompts, "seeds": list(seeds), "clips": prompts * len(seeds)}


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "not measured"
    return f"{fmean(values):.3g} ± {pstdev(values):.2g}" if len(values) > 1 else f"{values[0]:.3g}"
