"""Does the clip show what was asked? Shares of right answers, each with the doubt that its sample leaves.

The probe says what each clip shows; the prompt says what was asked; per attribute the agreement is the
share of equal words. Guessing is right once in as many times as there are words, so an attribute counts as
learnt when it is at least *half-way* from chance to 100 %. Intervals are Wilson's for each attribute, and
for the mean over attributes a bootstrap over prompts, for clips of one prompt, and attributes of one clip,
are right or wrong together.

What cannot be seen cannot be asked for: an attribute counts in a style only if the probe reads it there
from *true* clips (`visibility`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from mutoscope.video import Refusal

__all__ = ["Agreement", "Interval", "Share", "Visibility", "agreement", "table", "visibility", "wilson"]

Words = Mapping[str, str]  # attribute -> word
LEGIBLE = 0.8  # of the way from chance to 100 %, on true clips, from which on an attribute can be seen


@dataclass(frozen=True)
class Interval:
    """A range that holds the true share with 95 % confidence."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.low:5.1f} to {100 * self.high:5.1f}"


def wilson(right: float, count: float, *, z: float = 1.959964) -> Interval:
    """The score interval of a share of `right` out of `count` (Wilson 1927); `right` may be fractional.

    Raises:
        Refusal: no trials, or more right ones than trials.
    """
    if count <= 0 or not 0 <= right <= count:
        raise Refusal(
            f"{right} right of {count}: there must be at least one trial, and no more right than tried"
        )
    share, square = right / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


@dataclass(frozen=True)
class Share:
    """Agreement on one attribute: the share of right answers among `clips` of `prompts` prompts."""

    share: float
    interval: Interval
    chance: float
    clips: int
    prompts: int

    @property
    def half_way(self) -> float:
        """Half-way from chance to 100 %."""
        return (1 + self.chance) / 2

    @property
    def learnt(self) -> bool:
        return self.share >= self.half_way


@dataclass(frozen=True)
class Agreement:
    """Agreement per attribute, and the mean over attributes with its interval."""

    attributes: dict[str, Share]
    mean: float
    interval: Interval

    @property
    def missed(self) -> list[str]:
        """The attributes that are not half-way from chance to 100 %."""
        return [name for name, share in self.attributes.items() if not share.learnt]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: shares in [0, 1]."""
        rows = {
            name: {
                "share": one.share, "low": one.interval.low, "high": one.interval.high, "chance": one.chance,
                "half_way": one.half_way, "learnt": one.learnt, "clips": one.clips, "prompts": one.prompts,
            }
            for name, one in self.attributes.items()
        }  # fmt: skip
        mean = {"share": self.mean, "low": self.interval.low, "high": self.interval.high}
        return {"mean": mean, "attributes": rows}


@dataclass(frozen=True)
class Visibility:
    """What the probe reads from true clips: style -> attribute -> its share of right answers."""

    shares: dict[str, dict[str, float]]
    chances: dict[str, float]

    def seen(self, style: str, attribute: str) -> bool:
        """Whether an attribute can be seen in a style; what was never measured is taken to be visible."""
        share = self.shares.get(style, {}).get(attribute)
        chance = self.chances.get(attribute, 0.0)
        return share is None or share >= chance + LEGIBLE * (1 - chance)

    def counts(self, asked: Words, attribute: str) -> bool:
        """Whether an attribute of what was asked can be held against a clip."""
        return self.seen(asked.get("style", ""), attribute)

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """The pairs (style, attribute) that do not count."""
        return [(s, name) for s, row in self.shares.items() for name in row if not self.seen(s, name)]


def visibility(
    told: Sequence[Words], shown: Sequence[Words], *, words: Mapping[str, Sequence[str]]
) -> Visibility:
    """From what the probe told of true clips and what they show; `words` as the probe knows them."""
    shares: dict[str, dict[str, float]] = {}
    for style in sorted({truth["style"] for truth in shown}):
        pairs = [(t, truth) for t, truth in zip(told, shown, strict=True) if truth["style"] == style]
        shares[style] = {
            name: float(np.mean([t[name] == truth[name] for t, truth in pairs])) for name in words
        }
    return Visibility(shares, {name: 1 / len(choices) for name, choices in words.items()})


def agreement(
    told: Sequence[Words],
    asked: Sequence[Words],
    *,
    words: Mapping[str, Sequence[str]],
    prompts: Sequence[int] | None = None,
    counts: Callable[[Words, str], bool] = lambda asked, attribute: True,
    draws: int = 2000,
    seed: int = 0,
) -> Agreement:
    """How far what the probe told of each clip is what its prompt asked.

    Args:
        told: the probe's words, one mapping a clip.
        asked: what the clip's prompt asks; an attribute that it leaves out is not judged.
        words: attribute -> the words that the probe chooses from; the attributes to judge.
        prompts: the number of each clip's prompt, for clips of one prompt are not independent; else one each.
        counts: whether an attribute of what was asked counts, such as `Visibility.counts`.
        draws, seed: of the bootstrap.

    Raises:
        Refusal: no clips, or not one answer for each.
    """
    if not told or len(told) != len(asked):
        raise Refusal(
            f"{len(told)} answers to {len(asked)} questions; give one for each clip, and at least one clip"
        )
    numbers = np.arange(len(told)) if prompts is None else np.asarray(prompts)
    groups = np.unique(numbers, return_inverse=True)[1]
    right = np.array([[t[name] == a.get(name) for name in words] for t, a in zip(told, asked, strict=True)])
    valid = np.array([[name in a and counts(a, name) for name in words] for a in asked])
    shares = {
        name: _share(right[valid[:, k], k], groups[valid[:, k]], chance=1 / len(words[name]))
        for k, name in enumerate(words)
        if valid[:, k].any()
    }
    if not shares:
        names = ", ".join(words)
        raise Refusal(
            f"nothing to judge: no prompt asks for any of {names}, or the probe cannot read them even in "
            "true clips; ask for one of these, or train the probe for longer"
        )
    mean = float(np.mean([one.share for one in shares.values()]))
    return Agreement(shares, mean, _bootstrap(right, valid, groups, draws=draws, seed=seed))


def _share(right: Bool[np.ndarray, "n"], groups: np.ndarray, *, chance: float) -> Share:
    prompts = len(np.unique(groups))
    share = float(right.mean())
    # as if each prompt were one trial: no narrower than that, however many seeds were tried
    return Share(share, wilson(share * prompts, prompts), chance, len(right), prompts)


def _bootstrap(
    right: Bool[np.ndarray, "n a"],
    valid: Bool[np.ndarray, "n a"],
    groups: np.ndarray,
    *,
    draws: int,
    seed: int,
) -> Interval:
    """The interval of the mean over attributes when prompts are drawn anew, with replacement."""
    number = int(groups.max()) + 1
    hits, tried = np.zeros((number, right.shape[1])), np.zeros((number, right.shape[1]))
    np.add.at(hits, groups, right & valid)
    np.add.at(tried, groups, valid)
    weights = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=draws)
    total = weights @ tried
    shares = np.where(total > 0, weights @ hits / np.maximum(total, 1), np.nan)
    means = np.nanmean(shares[(total > 0).any(1)], 1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(low), float(high))


def table(made: Agreement, *, ceilings: Mapping[str, Agreement] | None = None) -> str:
    """A table in plain text: agreement, interval, half-way and verdict, beside what true clips reach."""
    ceilings = ceilings or {}
    head = f"{'attribute':<12}{'agreement':>10}   {'95 % interval':<15}{'half-way':>9}"
    lines = [head + "".join(f"{name:>16}" for name in ceilings)]
    for name, one in made.attributes.items():
        beside = "".join(_cell(other.attributes.get(name)) for other in ceilings.values())
        middle = f"{one.interval!s:<15}{100 * one.half_way:>7.1f} %{beside}"
        lines.append(
            f"{name:<12}{100 * one.share:>8.1f} %   {middle}{'' if one.learnt else '   below half-way'}"
        )
    beside = "".join(f"{100 * other.mean:>14.1f} %" for other in ceilings.values())
    lines.append(f"{'mean':<12}{100 * made.mean:>8.1f} %   {made.interval!s:<15}{'':>9}{beside}")
    return "\n".join(lines)


def _cell(one: Share | None) -> str:
    return f"{'-':>16}" if one is None else f"{100 * one.share:>14.1f} %"
