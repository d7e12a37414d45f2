"""The rows with training, at toy size: every one runs, is kept, goes on, and is told with its spread."""

import json
import sys
from dataclasses import replace
from importlib import import_module
from math import log, prod, sqrt
from pathlib import Path

import pytest
import torch
from benchmarks.trained import brightness, priors, rollout, shifts
from benchmarks.trained.__main__ import BENCH
from benchmarks.trained.bench import Bench
from benchmarks.trained.experiment import Comparison, Experiment, Outcome, Record, carried_out, ratio, read
from benchmarks.trained.learner import ANY, SCALES, DiscTask, learned, longer, seeded
from benchmarks.trained.plots import figure
from benchmarks.trained.report import report, spread

from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.prior import Mixed
from mutoscope.video import Refusal

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "gpu"))  # as Python does for a script there
trained_rows = import_module("trained_rows")

TOY = SCALES["toy"]


# Learning


def task(seed: int = 0, **changes) -> DiscTask:
    return DiscTask(seeded(TOY, seed), TOY.discs, TOY.batch, seed, **changes)


def test_a_training_is_a_function_of_its_seed_and_prior():
    def weights(**changes):
        return learned(task(**changes), TOY, seed=changes.get("seed", 0)).denoiser.network.state_dict()

    one, again, other = weights(), weights(), weights(prior=Mixed(1.0))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_averaged_weights_are_those_that_are_measured():
    made = task()
    trained = learned(made, TOY, seed=0)
    assert trained.denoiser.network is made.network and not made.network.training
    assert trained.seconds > 0 and trained.loss > 0


def test_arms_of_a_seed_start_alike_and_see_the_same_films():
    one, other = task(), task(prior=Mixed(1.0))
    for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(a, b)
    cpu = torch.device("cpu")
    assert torch.equal(one.films(5, device=cpu).video, other.films(5, device=cpu).video)


def test_the_kind_is_told_or_hidden():
    network = seeded(TOY, 0)
    torch.nn.init.normal_(network.transformer.head.weight)
    film, t = torch.randn(1, 3, 4, 16, 16), torch.full((1, 4), 0.5)
    told, hidden = (network(film, t, torch.tensor([kind])) for kind in (1, ANY))
    assert torch.equal(network(film, t, None), hidden) and not torch.equal(told, hidden)


def test_discs_are_learnt():
    """The error falls well below that of a network that has seen two steps."""
    scale = replace(TOY, steps=40, batch=16, heads=2, patch=16)
    losses = [
        learned(DiscTask(seeded(scale, 0), scale.discs, 16, 0), replace(scale, steps=steps), seed=0).loss
        for steps in (2, 40)
    ]
    assert losses[1] < 0.6 * losses[0]


def test_frames_that_are_known_teach_nothing():
    made = rollout.TeacherForcing(seeded(TOY, 0), TOY.discs, 64, 0)
    t = made.levels(64, 4, generator=torch.Generator().manual_seed(0))
    known = t == 0
    assert bool(known[:, 0].all()) and not bool(known[:, -1].any())
    assert bool((known.int().diff(dim=1) <= 0).all())
    assert set(known.sum(dim=1).tolist()) == {1, 2, 3}
    film, noise = torch.randn(2, 64, 3, 4, 16, 16)
    error = made.error(film, noise, t=t, kind=torch.full((64,), ANY))
    noise[:, :, 0] += 1  # of a known frame: it is not in what is shown, and not in what is asked
    assert torch.equal(made.error(film, noise, t=t, kind=torch.full((64,), ANY)), error)


# Rows


def test_a_roll_out_begins_with_what_is_known_and_each_window_sees_the_frames_before_it():
    """A denoiser that answers with the mean of what it is shown as known makes that the rest of the film."""

    class Repeats(GaussianDenoiser):
        def __call__(self, noisy, t, condition):
            return noisy[:, :, :2].mean(dim=2, keepdim=True).expand_as(noisy)

    true = torch.randn(3, 3, 8, 2, 2)
    film = rollout.rolled(Repeats(torch.zeros(4), torch.eye(4)), true, scale=TOY, seed=0)
    assert film.shape == true.shape and torch.equal(film[:, :, :2], true[:, :, :2])
    expected = true[:, :, :2].mean(dim=2, keepdim=True).expand(-1, -1, 6, -1, -1)
    torch.testing.assert_close(film[:, :, 2:], expected)


def test_drift_is_measured_from_the_first_frame():
    from benchmarks.trained.state import measured

    true = TOY.discs.draw(0, 16).video
    moved = true + 0.1
    first = measured(true[:, :, :1])
    assert rollout.drift(measured(moved), first, frames=slice(2, 4)) == pytest.approx(0.1, abs=0.01)
    assert rollout.drift(measured(true), first, frames=slice(2, 4)) < 0.02


@pytest.mark.parametrize("name", list(brightness.TABLES))
def test_brightness_kept_is_the_closed_form_for_the_exact_denoiser(name):
    """The same measurement with the exact denoiser of these films in the network's place."""
    table, shape = brightness.TABLES[name], (2, 16, 16)

    class Exact(GaussianDenoiser):
        def __call__(self, noisy, t, condition):
            alpha, sigma = (part(t[0, 0].double()) for part in (self.schedule.alpha, self.schedule.sigma))
            mean = noisy.mean(dim=(1, 2, 3, 4), keepdim=True)
            own, all_ = brightness.S**2, brightness.S**2 + prod(shape) * brightness.SB**2
            gain = [alpha * v / (alpha**2 * v + sigma**2) for v in (own, all_)]
            return (gain[0] * (noisy - mean) + gain[1] * mean).to(noisy)

    exact = Exact(torch.zeros(2), torch.eye(2), table.schedule)
    kept = brightness.kept(exact, shape, films=512, seed=0, device="cpu")
    assert kept == pytest.approx(brightness.closed_form(table.schedule, shape), rel=4 / sqrt(2 * 512))


def test_the_lowest_place_of_a_parabola_is_found():
    found = [exp_parabola(shift, at=1.7) for shift in shifts.SHIFTS]
    assert shifts.lowest(shifts.SHIFTS, found) == pytest.approx(1.7, rel=1e-6)
    assert shifts.lowest((1.0, 2.0, 4.0), (3.0, 2.0, 1.0)) == 4.0  # an end, where it lies there


def exp_parabola(shift: float, *, at: float) -> float:
    return 2.718281828459045 ** ((log(shift) - log(at)) ** 2)


def test_the_best_shift_of_exact_still_films_grows_with_their_root():
    arms = shifts.run("exact", TOY, 0).arms
    best = {
        length: arms[f"exact still, {length} frame{'s' * (length > 1)}"]["best shift"]
        for length in shifts.LENGTHS
    }
    assert best[1] < best[4] < best[16] and 2 < best[16] / best[1] < 8


def test_lengths_take_turns_and_half_the_films_stand_still():
    made = shifts.LengthsTask(seeded(TOY, 0), TOY.discs, 8, 0, unconditional=0.0)
    for step, length in enumerate(shifts.LENGTHS):
        sample = made.films(step, device=torch.device("cpu"))
        assert sample.video.shape[2] == length
        still = sample.kind == 0
        assert bool((sample.speed[still] == 0).all()) and bool((sample.speed[~still] > 0).all())
        assert still.float().mean() == 0.5


# Records and the page


def counted(calls: list) -> Experiment:
    def run(unit: str, scale, seed: int) -> Outcome:
        calls.append((seed, unit))
        return Outcome(1.0, 2.0, {unit: {"value": float(seed + 1) * (2 if unit == "a" else 1)}})

    comparison = Comparison("a over b", "at least 2", ratio("value", "a", "b"), 2.0)
    return Experiment(
        "counted", "Counted", "nothing", ("a", "b"), run, (comparison,), remark="As it came out."
    )


def test_a_row_goes_on_where_it_stopped(tmp_path):
    calls, path = [], tmp_path / "record.json"
    experiment = counted(calls)
    started = carried_out(experiment, TOY, seeds=range(2), path=path)
    next(started), next(started), next(started)
    started.close()
    assert read(path).complete(experiment) == [0]
    assert len(list(carried_out(experiment, TOY, seeds=range(2), path=path))) == 1
    assert calls == [(0, "a"), (0, "b"), (1, "a"), (1, "b")] and read(path).complete(experiment) == [0, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_another_scale_is_refused_in_one_line(tmp_path):
    list(carried_out(counted([]), TOY, seeds=range(1), path=tmp_path / "record.json"))
    with pytest.raises(Refusal, match="another scale"):
        list(carried_out(counted([]), longer(TOY, 2), seeds=range(1), path=tmp_path / "record.json"))


def test_the_page_tells_spread_cost_and_how_many_seeds_meet_what_was_wanted(tmp_path):
    experiment = counted([])
    list(carried_out(experiment, TOY, seeds=range(3), path=tmp_path / "record.json"))
    page = report({experiment: read(tmp_path / "record.json")}, head="# Head", command="measure")
    assert "| a | 4 (2 to 6) |" in page and "| b | 2 (1 to 3) |" in page
    assert "| a over b | at least 2 | 2 (2 to 2) | 3 of 3 |" in page
    assert page.startswith("# Head") and "`measure counted --scale toy --seeds 3`: 16x16 pixels" in page
    assert "a 1 + 2; b 1 + 2" in page and "As it came out." in page


def test_a_row_is_drawn_with_a_dot_a_seed_and_what_is_compared_first(tmp_path):
    def run(unit: str, scale, seed: int) -> Outcome:
        return Outcome(1.0, 1.0, {unit: {"cost": 1.0, "error": seed + 1.0, "size": 2.0}})

    compared = Comparison("error: a over b", "", ratio("error", "a", "b"))
    experiment = Experiment("drawn", "Drawn", "nothing", ("a", "b"), run, (compared,))
    path = tmp_path / "bench_drawn.json"
    list(carried_out(experiment, TOY, seeds=range(3), path=path))
    panels = figure(experiment, read(path)).panels
    assert [panel.title for panel in panels] == ["error", "cost"]
    dots, means = panels[0].curves
    assert panels[0].rows == ["b", "a"] and dots.x.tolist() == [1, 2, 3] * 2 and means.x.tolist() == [2, 2]
    bench = Bench("bench", "# Head", {"drawn": experiment}, {"cpu": TOY})
    bench.write_report(tmp_path, tmp_path / "page.md", drawn=True)
    assert "(pictures/page-drawn.png)" in (tmp_path / "page.md").read_text()
    assert (tmp_path / "pictures" / "page-drawn.png").stat().st_size > 1000


def test_seeds_without_all_units_are_not_told():
    record = Record(TOY, {0: {"a": Outcome(1.0, 1.0, {"a": {"value": 1.0}})}})
    assert "Not yet measured" in report({counted([]): record}, head="", command="")


def test_rows_without_a_record_are_told_with_their_command():
    page = report({counted([]): None}, head="# Head", command="measure")
    assert "## Not measured yet" in page and "- Counted: `measure counted`" in page


def test_spread_is_mean_and_range():
    assert spread([1.0, 2.0, 6.0]) == "3 (1 to 6)"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BENCH.experiments))
def test_every_row_runs_at_toy_size(name, tmp_path):
    page = tmp_path / "page.md"
    code = BENCH.main(
        [name, "--scale", "toy", "--seeds", "1", "--out", str(tmp_path), "--report", str(page)]
    )
    experiment = BENCH.experiments[name]
    record = BENCH.record(name, tmp_path)
    assert code == 0 and record is not None and record.complete(experiment) == [0]
    values = [one.value(record.arms(0)) for one in experiment.comparisons]
    assert values and all(value == value for value in values)
    assert experiment.title in page.read_text()


# The script for a lent GPU


def test_the_gpu_script_stops_when_its_time_is_up_and_goes_on_elsewhere(tmp_path, capsys):
    def call(out: str, *more: str) -> int:
        return trained_rows.main(
            ["--toy", "--rows", "brightness", "--seeds", "1", "--out", str(tmp_path / out), *more]
        )

    assert call("first", "--budget-seconds", "-1") == 0
    assert "time is up" in capsys.readouterr().out
    assert call("first", "--back", str(tmp_path / "back")) == 0
    said = capsys.readouterr().out
    assert said.count("brightness, seed 0") == len(brightness.TABLES) and "0.9 to 1.1" in said
    assert {path.name for path in (tmp_path / "back").iterdir()} == {"trained_brightness.json", "trained.md"}
    assert call("second", "--start", str(tmp_path / "back")) == 0
    assert "seed 0" not in capsys.readouterr().out  # nothing was left to do
    assert json.loads((tmp_path / "second" / "trained_brightness.json").read_text())["outcomes"]["0"]


def test_without_a_gpu_the_script_says_so(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert trained_rows.main(["--out", str(tmp_path)]) == 2
    assert "--toy" in capsys.readouterr().err


def test_priors_share_their_white_noise():
    assert set(priors.PRIORS) == set(priors.EXPERIMENT.units)
