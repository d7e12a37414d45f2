"""A probe learns, its clips come from the step alone, and its folder is what the loop left."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mutoscope.data.loader import WorldSource
from mutoscope.data.world import SMALL, Vocabulary
from mutoscope.evaluation.probe import Probe, ProbeConfig, load_probe
from mutoscope.training.disturb import Disturbance
from mutoscope.training.loop import Progress, TrainSettings
from mutoscope.training.optimizer import OptimizerSettings
from mutoscope.training.probe import (
    ClipPool,
    ProbeSettings,
    ProbeTask,
    accuracies,
    ensure_probe,
    known_probe,
    schedule,
    train_probe,
    truths,
)
from mutoscope.video import Refusal

LIGHT = Vocabulary(
    subject=("man",), action=("walking",), colour=("red",), place=("park",), weather=("clear",),
    light=("day", "night"), style=("flat illustration",), direction=("left", "right"), camera=("following",),
)  # fmt: skip
FEED = ProbeSettings(fresh=2, again=2, pool=8)


def tiny(vocabulary: Vocabulary = LIGHT) -> ProbeConfig:
    return ProbeConfig.of(vocabulary.words(), frames=2, size=(24, 16), widths=(4, 4, 8, 8), features=8)


def source(vocabulary: Vocabulary = LIGHT, *, seed: int = 0) -> WorldSource:
    return WorldSource(vocabulary, frames=2, size=(24, 16), seed=seed)


def settings(steps: int = 2) -> TrainSettings:
    return schedule(steps=steps).model_copy(update={"precision": "float32", "warmup_steps": 0})


def trained(out: Path, *, steps: int = 2, run: Path | None = None) -> list[Progress]:
    made: Iterator[Progress] = train_probe(
        out, vocabulary=LIGHT, settings=settings(steps), feed=FEED, config=tiny(), run_folder=run
    )
    return list(made)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_pool_gives_the_sources_clips_within_a_level() -> None:
    pool = ClipPool(source(), chunk=2, room=8)
    clips, scenes = pool.take([3, 0])
    for k, (step, place) in enumerate([(1, 1), (0, 0)]):
        batch = source().batch(step, 2)
        assert scenes[k] == batch.scenes[place]
        assert (clips[k] - batch.video[place]).abs().max() <= 1 / 255 + 1e-6


def test_the_pool_forgets_the_oldest_and_draws_it_again() -> None:
    pool = ClipPool(source(), chunk=2, room=4)
    first, _ = pool.take([0])
    pool.take([2, 4])
    assert sorted(pool.kept) == [1, 2]
    again, _ = pool.take([0])
    assert torch.equal(first, again)


def test_a_step_shows_what_is_new_and_some_of_what_the_pool_has_room_for() -> None:
    pool = ClipPool(source(), chunk=2, room=6)
    numbers = pool.numbers(10, 50, generator=generator())
    assert numbers[:2] == [20, 21] and len(numbers) == 52
    assert set(numbers) == set(range(16, 22))
    assert numbers == pool.numbers(10, 50, generator=generator())
    assert set(pool.numbers(0, 9, generator=generator())) <= {0, 1}


def test_a_mirrored_clip_goes_the_other_way_and_is_otherwise_the_same() -> None:
    scenes, config = source().batch(0, 6).scenes, tiny()
    plain, turned = truths(scenes, config), truths(scenes, config, mirrored=[True] * 6)
    assert torch.equal(turned["direction"], 1 - plain["direction"])
    assert torch.equal(turned["light"], plain["light"])
    for k, scene in enumerate(scenes):
        assert config.words["light"][int(plain["light"][k])] == scene.light


def test_the_loss_is_a_function_of_the_step_even_for_a_new_pool() -> None:
    torch.manual_seed(0)
    probe = Probe(tiny())
    old = ProbeTask(probe, source(), settings=FEED)
    for step in range(4):
        before = old.loss(step, generator(step))
    resumed = ProbeTask(probe, source(), settings=FEED)
    assert torch.equal(before["loss"], resumed.loss(3, generator(3))["loss"])
    assert not torch.equal(before["loss"], resumed.loss(2, generator(2))["loss"])


def test_right_is_the_share_of_right_answers() -> None:
    probe = Probe(tiny())
    for head in probe.heads.values():
        torch.nn.init.zeros_(head.weight)
        head.bias.data = torch.tensor([1.0, 0.0])  # always the first word
    task = ProbeTask(
        probe, source(), settings=ProbeSettings(fresh=8, again=0), strength=Disturbance(0, 0, 0, 0, 0)
    )
    losses = task.loss(0, generator())
    flipped = (torch.rand(8, generator=generator()) < 0.5).tolist()
    asked = truths(source().batch(0, 8).scenes, probe.config, mirrored=flipped)
    expected = torch.stack([(value == 0).float().mean() for value in asked.values()]).mean()
    assert losses["right"] == expected


def test_a_probe_soon_beats_chance(tmp_path: Path) -> None:
    """Day or night, left or right, at 24x16 pixels: a few steps teach a tiny probe the hour."""
    config = tiny()
    quick = settings(16).model_copy(update={"optimizer": OptimizerSettings(muon_lr=0.02, adamw_lr=5e-3)})
    feed = ProbeSettings(fresh=3, again=9, pool=100)
    *_, last = train_probe(tmp_path, vocabulary=LIGHT, settings=quick, feed=feed, config=config)
    assert last.event == "finished"
    shares = accuracies(load_probe(tmp_path), source(seed=99), count=20, chunk=10)
    assert shares["light"] >= 0.9
    assert shares["mean"] == pytest.approx((shares["light"] + shares["direction"]) / 2)


def test_what_is_written_is_the_average_of_the_run(tmp_path: Path) -> None:
    *_, last = trained(tmp_path / "probe", run=tmp_path / "run")
    assert last.ema is not None
    average = last.ema.tensors()
    for name, weight in load_probe(tmp_path / "probe").state_dict().items():
        assert torch.equal(weight, average[f"probe.{name}"].bfloat16().float())


def test_a_stopped_run_goes_on_to_the_same_probe(tmp_path: Path) -> None:
    trained(tmp_path / "whole", steps=4)
    run = train_probe(
        tmp_path / "parts", vocabulary=LIGHT, settings=settings(4), feed=FEED, config=tiny(),
        run_folder=tmp_path / "run",
    )  # fmt: skip
    next(run), next(run)
    run.close()
    assert not (tmp_path / "parts").exists()
    trained(tmp_path / "parts", steps=4, run=tmp_path / "run")
    one, other = (load_probe(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_probe_that_is_there_is_left_alone(tmp_path: Path) -> None:
    trained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    assert list(ensure_probe(tmp_path, vocabulary=LIGHT)) == []
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_probe_of_another_world_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(Refusal, match="other words"):
        list(ensure_probe(tmp_path, vocabulary=SMALL))


def test_models_of_one_world_are_judged_by_one_probe(tmp_path: Path) -> None:
    """The shipped one, if it knows the same words and the model has none of its own."""
    own, shipped = tmp_path / "own", tmp_path / "shipped"
    assert known_probe(own, shipped, vocabulary=LIGHT) == own
    trained(shipped)
    assert known_probe(own, shipped, vocabulary=LIGHT) == shipped
    assert known_probe(own, shipped, vocabulary=SMALL) == own
    trained(own)
    assert known_probe(own, shipped, vocabulary=LIGHT) == own


def test_a_missing_probe_is_trained_on_the_spot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def train_quickly(out: Path, **told: object) -> Iterator[Progress]:
        asked.update(told, out=out)
        yield from trained(out)

    monkeypatch.setattr("mutoscope.training.probe.train_probe", train_quickly)
    events = [progress.event for progress in ensure_probe(tmp_path / "new", vocabulary=LIGHT, minutes=0.5)]
    assert events[-1] == "finished" and asked["settings"].minutes == 0.5
    assert load_probe(tmp_path / "new").config == tiny()
