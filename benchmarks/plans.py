"""Whether one checkpoint serves every plan of noise levels: what its films show under each, beside plan full.

Films of the prompts whose combinations were kept out of training, the same prompt and seed under every plan,
judged by the probe that ships. Prompts come in a shuffled order, so that a run that is stopped has judged a
fair sample; its answers are kept in --answers, and the next run with as many steps goes on from there.

    python benchmarks/plans.py --prompts 100                    all plans but autoregressive
    python benchmarks/plans.py --prompts 40 --plans full autoregressive    which makes 13 times as many calls
    python benchmarks/plans.py --toy                            two prompts, two steps, to see that it runs
    python benchmarks/plans.py --save                           also benchmarks/results/plans.json

An interval is of the mean over attributes when prompts are drawn anew, 2000 times; a difference is of the
same prompts. The fall allowed is two points.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import turns

from mutoscope.data.world import Scene, held_out_prompts
from mutoscope.evaluation.probe import Probe, load_probe, look
from mutoscope.models.memory import keep_memory
from mutoscope.pipelines import PRETRAINED, Pipeline, load

RESULTS = Path(__file__).parent / "results" / "plans.json"
PLANS = ("full", "pyramid", "blocks", "keyframes", "rolling", "autoregressive")
DRAWS = 2000

Answers = dict[str, dict[str, dict[str, Any]]]
"""plan -> number of the prompt -> the "words" that the probe saw, and the "seconds" that the film took."""


def answered(
    pipeline: Pipeline,
    probe: Probe,
    prompts: Sequence[tuple[str, Scene]],
    *,
    plans: Sequence[str],
    steps: int,
    answers: Path,
) -> Answers:
    """The answers to all prompts under all plans; those already in the file are not asked again."""
    kept = json.loads(answers.read_text()) if answers.exists() else {"steps": steps, "plans": {}}
    if kept["steps"] != steps:
        raise SystemExit(f"{answers} holds films of {kept['steps']} steps, not {steps}: name another file")
    known: Answers = kept["plans"]
    answers.parent.mkdir(parents=True, exist_ok=True)
    for number, (text, _) in enumerate(prompts):
        for plan in plans:
            row = known.setdefault(plan, {})
            if str(number) not in row:
                row[str(number)] = _shown(pipeline, probe, text, seed=number, plan=plan, steps=steps)
        answers.write_text(json.dumps(kept))
    return known


def _shown(pipeline: Pipeline, probe: Probe, text: str, **settings: Any) -> dict[str, Any]:
    begun = time.thread_time()
    (film,) = pipeline.films([pipeline.request(text, **settings)])
    seconds = time.thread_time() - begun
    return {"words": look(probe, [film]).words()[0], "seconds": seconds}


def rights(shown: Mapping[str, Mapping[str, Any]], prompts: Sequence[tuple[str, Scene]]) -> np.ndarray:
    """Prompts x attributes: 1 where the film shows what was asked, else 0; NaN where nothing was asked or the
    prompt has no answer."""
    names = next(iter(shown.values()))["words"].keys()
    right = np.full((len(prompts), len(names)), np.nan)
    for number, answer in shown.items():
        asked = prompts[int(number)][1].words()
        for k, name in enumerate(names):
            if name in asked:
                right[int(number), k] = answer["words"][name] == asked[name]
    return right


def summary(of: np.ndarray, full: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """Agreement, and how far it lies above that of plan full on the same prompts, with the interval."""
    both = ~np.isnan(of).all(1) & ~np.isnan(full).all(1)
    of, full = of[both], full[both]
    drawn = np.random.default_rng(seed).integers(len(of), size=(DRAWS, len(of)))
    apart = [_mean(of[rows]) - _mean(full[rows]) for rows in drawn]
    low, high = np.quantile(apart, (0.025, 0.975))
    return {
        "prompts": len(of), "agreement": _mean(of), "full": _mean(full),
        "difference": _mean(of) - _mean(full), "low": float(low), "high": float(high),
    }  # fmt: skip


def _mean(right: np.ndarray) -> float:
    """Over attributes, of the shares over prompts."""
    return float(np.nanmean(np.nanmean(right, axis=0)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=200, help="how many, 1 to 200 (default 200)")
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=PLANS[:-1])
    parser.add_argument("--steps", type=int, default=12, help="of every frame (default 12)")
    parser.add_argument(
        "--answers", type=Path, default=Path("runs/plans.json"), help="kept from run to run, but for a toy"
    )
    parser.add_argument("--toy", action="store_true", help="two prompts, two steps")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}; refused for a toy")
    options = parser.parse_args()
    if options.save and options.toy:
        parser.error("--save keeps measurements, and a toy is none: leave one of the two out")
    if not 1 <= options.prompts <= len(held_out_prompts()):
        parser.error(f"--prompts {options.prompts}: there are 1 to {len(held_out_prompts())}")
    torch.set_num_threads(1)
    keep_memory()
    count, steps = (2, 2) if options.toy else (options.prompts, options.steps)
    prompts = held_out_prompts()
    random.Random(0).shuffle(prompts)
    pipeline, probe = load(device="cpu"), load_probe(PRETRAINED / "probe")
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "toy.json" if options.toy else options.answers
        answers = answered(pipeline, probe, prompts[:count], plans=options.plans, steps=steps, answers=kept)
    if "full" not in answers:
        parser.error(f"{options.answers} has no film of plan full, beside which others are judged: add it")
    _report(pipeline.facts.name, answers, prompts, steps=steps, save=options.save)


def _report(
    name: str, answers: Answers, prompts: Sequence[tuple[str, Scene]], *, steps: int, save: bool
) -> None:
    right = {plan: rights(shown, prompts) for plan, shown in answers.items()}
    rows = {plan: summary(one, right["full"]) for plan, one in right.items()}
    print(f"{name}, {steps} steps, {turns.machine()}")
    print(f"{'plan':16}{'prompts':>8}{'agreement':>11}{'full':>8}{'difference':>12}   95 %{'seconds':>18}")
    for plan, row in rows.items():
        row["seconds"] = float(np.median([one["seconds"] for one in answers[plan].values()]))
        shares = f"{100 * row['agreement']:10.1f}%{100 * row['full']:7.1f}%{100 * row['difference']:+12.1f}"
        print(f"{plan:16}{row['prompts']:8}{shares}   {100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
              f"{row['seconds']:12.1f}")  # fmt: skip
    if save:
        kept = {"model": name, "steps": steps, "machine": turns.machine(), "plans": rows}
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
