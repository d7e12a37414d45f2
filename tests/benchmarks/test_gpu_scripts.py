"""The scripts for a lent GPU, on a processor: drawn by others, packed in pieces, taken away, gone on with."""

import json
import sys
import warnings
from concurrent.futures import Future
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mutoscope.checkpoints.folder import load_model
from mutoscope.data.loader import WorldSource
from mutoscope.data.world import VOCABULARIES
from mutoscope.models.autoencoder import Autoencoder
from mutoscope.models.text import TextEncoder, TextEncoderConfig
from mutoscope.models.transformer import Transformer
from mutoscope.pipelines.generate import Pipeline
from mutoscope.recipes import RECIPES
from tiny import tiny_model

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "gpu"))  # as Python does for a script there

drawers, ledger, parcel, step_speed, train_shipped = map(
    import_module, ("drawers", "ledger", "parcel", "step_speed", "train_shipped")
)

WORLD = drawers.World("full", 3, (32, 32), 12.0)
STEP = 2 / 255  # between two neighbouring bytes in [-1, 1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "whole" / "model").mkdir(parents=True)
    (tmp_path / "whole" / "ledger.json").write_text("{}")
    (tmp_path / "whole" / "model" / "weights").write_bytes(np.random.default_rng(0).bytes(30_000))
    return tmp_path / "whole"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# A parcel


def test_a_parcel_comes_out_as_it_went_in(folder, tmp_path):
    packed = parcel.pack(folder, tmp_path / "files", piece=9000)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "files").glob("part-*"))]
    assert len(sizes) == packed.pieces > 3 and max(sizes) <= 9000 and sum(sizes) == packed.size
    assert contents(parcel.join(tmp_path / "files", tmp_path / "out")) == contents(folder)


def test_a_smaller_parcel_leaves_no_piece_of_a_larger_one(folder, tmp_path):
    parcel.pack(folder, tmp_path / "files", piece=5000)
    (folder / "model" / "weights").write_bytes(b"few")
    parcel.pack(folder, tmp_path / "files", piece=10**6)
    assert len(list((tmp_path / "files").glob("part-*"))) == 1
    assert contents(parcel.join(tmp_path / "files", tmp_path / "out")) == contents(folder)


def test_what_is_too_heavy_is_refused_and_the_last_parcel_stays(folder, tmp_path):
    parcel.pack(folder, tmp_path / "files")
    before = contents(tmp_path / "files")
    with pytest.raises(parcel.BrokenParcel, match="can come back"):
        parcel.pack(folder, tmp_path / "files", most=1000)
    assert contents(tmp_path / "files") == before


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"torn")])
def test_a_damaged_parcel_is_refused_and_nothing_is_left(folder, tmp_path, harm):
    parcel.pack(folder, tmp_path / "files", piece=9000)
    harm(tmp_path / "files" / "part-01")
    with pytest.raises(parcel.BrokenParcel, match="part-01 is missing or damaged"):
        parcel.join(tmp_path / "files", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "whole"]


def test_the_command_says_what_came_out_or_why_nothing_did(folder, tmp_path, capsys):
    parcel.pack(folder, tmp_path / "files")
    assert parcel.main([str(tmp_path / "files"), str(tmp_path / "out")]) == 0
    assert "30,000  model/weights" in capsys.readouterr().out
    assert parcel.main([str(tmp_path / "files"), str(tmp_path / "out")]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert parcel.main([str(tmp_path), str(tmp_path / "other")]) == 2
    assert "no parcel.json" in capsys.readouterr().err


def test_limits_are_those_of_the_machine():
    assert parcel.PIECE <= 16 * 2**20 and parcel.WHOLE <= 64 * 2**20
    assert -(-parcel.WHOLE // parcel.PIECE) + 1 <= 8  # files, the label among them


# Drawers -


class Here:
    """Drawers that draw at once, in this process."""

    def __init__(self, folder: Path) -> None:
        self.workers, self.clips, self.folder, self.begun, self.rests = 1, 3, folder, 0, 0

    def start(self, world, *, seed, start, count) -> list[Future]:
        futures = []
        for at in range(start, start + count, self.clips):
            order = drawers.Order(world, seed, at, min(3, start + count - at), "cpu", str(self.folder))
            futures.append(Future())
            futures[-1].set_result(drawers.fill(order))
            self.begun += 1
        return futures

    def rest(self) -> None:
        self.rests += 1


@pytest.fixture
def source(tmp_path: Path):
    return drawers.DrawnSource(Here(tmp_path), WORLD, 5, "cpu")


def test_clips_drawn_elsewhere_are_those_of_the_world_to_eight_bits(source):
    truth = WorldSource(VOCABULARIES["full"], frames=3, size=(32, 32), fps=12.0, seed=5)
    for step in (0, 2):
        drawn, true = source.batch(step, 4), truth.batch(step, 4)
        assert drawn.scenes == true.scenes and drawn.captions == true.captions
        assert (drawn.video - true.video).abs().max() <= STEP / 2 + 1e-6
        assert (drawn.figure - true.figure).abs().max() <= 0.5 / 255 + 1e-6


def test_the_next_batches_are_begun_and_nothing_is_drawn_twice(source):
    source.batch(0, 6)
    ahead = source.drawers.begun
    assert ahead >= 2 * source.drawers.workers + 2
    source.batch(1, 6)
    assert source.drawers.begun == ahead + 2  # one more step of two parts
    source.close()
    assert not source.coming and source.drawers.rests == 1


def test_files_are_gone_once_they_are_read(source, tmp_path):
    source.batch(0, 3)
    waiting = {part.result() for parts in source.coming.values() for part in parts}
    assert {str(path) for path in tmp_path.iterdir()} == waiting


def test_bytes_and_back_is_the_same():
    packed = torch.randint(0, 256, (2, 3, 4, 8, 8), dtype=torch.uint8)
    assert torch.equal(drawers.to_bytes(*drawers.from_bytes(packed)), packed)


def test_a_pool_shows_stretches_of_its_clips_as_a_function_of_the_step(source):
    pool = drawers.Pool(source, clips=5, frames=2)
    batch, again, other = pool.batch(3, 4), pool.batch(3, 4), pool.batch(4, 4)
    assert batch.video.shape == (4, 3, 2, 32, 32) and batch.figure.shape == (4, 2, 32, 32)
    assert torch.equal(batch.video, again.video) and not torch.equal(batch.video, other.video)
    clips = pool._filled()
    assert len(clips) == 5 and source.drawers.rests == 1
    whole, _ = drawers.from_bytes(clips)
    stretches = torch.cat([whole[:, :, start : start + 2] for start in (0, 1)])
    for clip in batch.video:
        assert (stretches - clip).abs().flatten(1).amax(1).min() == 0


@pytest.mark.slow
def test_processes_draw_and_end(tmp_path):
    crew = drawers.Drawers(2, device="cpu", clips=2)
    try:
        source = drawers.DrawnSource(crew, WORLD, 5, "cpu")
        truth = WorldSource(VOCABULARIES["full"], frames=3, size=(32, 32), fps=12.0, seed=5)
        for step in range(2):
            assert (source.batch(step, 4).video - truth.batch(step, 4).video).abs().max() <= STEP
            crew.rest()  # the next order begins new processes
            source.coming.clear()
    finally:
        crew.close()
    assert not Path(crew.folder).exists() and crew.pool is None


# The ledger ---------------------------------------------------------------------------------------


def done(**entries) -> "ledger.Ledger":
    return ledger.Ledger({name.replace("_", "-"): ledger.Entry(**entry) for name, entry in entries.items()})


def test_with_an_empty_ledger_everything_is_left():
    left = ledger.rest(RECIPES["gpu"], ledger.Ledger())
    assert left.recipe == RECIPES["gpu"] and left.stage == "all" and not left.nothing


def test_a_begun_stage_gets_the_rest_of_its_minutes_and_its_whole_decay():
    whole = RECIPES["gpu"].autoencoder.train
    seconds = 60 * (whole.minutes or 0) - 180
    left = ledger.rest(RECIPES["gpu"], done(autoencoder={"steps": 900, "seconds": seconds}))
    train = left.recipe.autoencoder.train
    assert train.minutes == pytest.approx(3) and left.stage == "all"
    assert train.decay_share * train.minutes == pytest.approx(whole.decay_share * (whole.minutes or 0))


def test_late_in_a_stage_all_that_is_left_decays():
    pieces = RECIPES["gpu"].denoiser.pieces
    seconds = 60 * (pieces[1].train.minutes or 0) - 30
    begun = done(
        autoencoder={"steps": 9, "finished": True},
        denoiser_1={"steps": 9, "finished": True},
        denoiser_2={"steps": 9, "seconds": seconds},
    )
    left = ledger.rest(RECIPES["gpu"], begun)
    [piece] = left.recipe.denoiser.pieces
    assert left.stage == "denoiser" and left.pieces_done == 1
    assert piece.joint == pieces[1].joint and piece.train.decay_share == 1.0


def test_when_all_is_finished_nothing_is_left():
    names = ("autoencoder", "denoiser_1", "denoiser_2")
    assert ledger.rest(RECIPES["gpu"], done(**{name: {"finished": True} for name in names})).nothing


def test_what_other_machines_did_is_added(tmp_path):
    before = done(denoiser_2={"steps": 10, "seconds": 5.0, "views": 100})
    book = before.copy()
    progress = SimpleNamespace(
        step=4, steps=8, elapsed=2.0, rate=2.0, samples_rate=6.0, losses={"loss": 1.0}, event="step"
    )
    event = SimpleNamespace(stage="denoiser 1/1", progress=progress, done=4, total=8)
    name = ledger.stage_name(event, 1)
    for _ in range(2):  # told twice, counted once
        book.note(name, event, before)
    entry = book.entries["denoiser-2"]
    assert name == "denoiser-2"
    assert (entry.steps, entry.planned, entry.seconds, entry.views) == (14, 18, 7.0, 112)
    book.write(tmp_path)
    assert ledger.Ledger.read(tmp_path) == book and before.entries["denoiser-2"].steps == 10


# The course ---------------------------------------------------------------------------------------


def call(tmp_path: Path, name: str, *, events: int, start: Path | None = None) -> "train_shipped.Call":
    """A call whose time is up after so many events."""
    seen = iter(range(1, 1000))
    recipe = train_shipped.toy()
    files = tmp_path / f"{name}-files"
    return train_shipped.ShippedCall(recipe, tmp_path / name, files, start, over=lambda: next(seen) >= events)


def test_what_a_call_leaves_is_a_model_and_says_what_is_done(tmp_path, capsys):
    """Stopped in the first stage, gone on with by the same call, stopped again among the images."""
    train_shipped.train(call(tmp_path, "run", events=1))
    book = train_shipped.train(call(tmp_path, "run", events=4))
    steps = {name: (entry.steps, entry.finished) for name, entry in book.entries.items()}
    assert steps == {"autoencoder": (3, True), "latents": (8, True), "denoiser-1": (1, False)}
    folder = parcel.join(tmp_path / "run-files", tmp_path / "came-back")
    assert ledger.Ledger.read(folder).entries == book.entries and (folder / "samples.png").exists()
    assert load_model(folder / "model").transformer.config == train_shipped.toy().denoiser.transformer
    assert "denoiser-1" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_goes_on_on_the_same_machine_and_on_another(tmp_path, capsys):
    """Taken away in the first stage; stopped among the clips; then ended there, and on another machine."""
    book = train_shipped.train(call(tmp_path, "first", events=1))
    assert (book.entries["autoencoder"].steps, book.entries["autoencoder"].finished) == (1, False)
    start = parcel.join(tmp_path / "first-files", tmp_path / "came-back")
    there = {path.name for path in start.iterdir()}
    assert there >= {"model", "ledger.json", "quality.json", "reconstructions.png"}

    book = train_shipped.train(call(tmp_path, "second", events=8, start=start))
    assert book.entries["autoencoder"].steps == 3 and book.entries["autoencoder"].finished
    assert book.entries["latents"].finished and book.entries["denoiser-2"].steps == 2

    clips_begun = parcel.join(tmp_path / "second-files", tmp_path / "clips-begun")
    third = train_shipped.train(call(tmp_path, "third", events=99, start=clips_begun))
    assert third.entries["denoiser-2"].finished and third.entries["denoiser-2"].steps == 6
    assert not (tmp_path / "third" / "autoencoder").exists()  # it came along, and its clips were encoded anew

    book = train_shipped.train(call(tmp_path, "second", events=99, start=start))
    finished = {name: entry.steps for name, entry in book.entries.items() if entry.finished}
    assert finished == {"autoencoder": 3, "latents": 8, "denoiser-1": 3, "denoiser-2": 6}
    assert "denoiser-2" in capsys.readouterr().out
    _check_the_end(parcel.join(tmp_path / "second-files", tmp_path / "end"))
    assert train_shipped.train(call(tmp_path, "fourth", events=99, start=tmp_path / "end")) == book
    assert not (tmp_path / "fourth").exists()  # nothing was left to do


def _check_the_end(folder: Path) -> None:
    assert (folder / "samples.png").stat().st_size > 1000 and (folder / "denoiser-2-metrics.jsonl").exists()
    facts = json.loads((folder / "quality.json").read_text())
    assert facts["clips"] == 8 and 5 < facts["psnr"] < 40
    video = Pipeline(load_model(folder / "model")).generate("a man walking in the rain", seed=1)
    assert (len(video), video.size) == (5, (48, 32))


def test_the_table_tells_clips_from_images():
    clips_done = {"steps": 10, "planned": 20, "losses": {"loss": 0.5}}
    book = done(autoencoder={"steps": 10}, denoiser_2=clips_done)
    lines = train_shipped.table(RECIPES["gpu"], book).splitlines()
    joint = RECIPES["gpu"].denoiser.pieces[1].joint
    clips = 10 * sum(s * (joint.frames_a_step // n) for n, s in joint.lengths.items() if n > 1)
    assert f"{clips:,.0f}" in lines[2] and "10/20 .." in lines[2] and lines[2].endswith("loss 0.5")


def test_a_start_that_is_none_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "start").mkdir()
    code = train_shipped.main(["--toy", "--out", str(tmp_path / "run"), "--start", str(tmp_path / "start")])
    said = capsys.readouterr().err
    assert code == 2 and str(tmp_path / "start") in said and said.count("\n") == 1


# The recipe ---------------------------------------------------------------------------------------


def test_the_shipped_folder_fits_its_bytes():
    recipe = RECIPES["gpu"]
    stage = recipe.denoiser
    words = TextEncoderConfig(
        vocabulary=stage.tokens, width=stage.transformer.text_dim, layers=stage.text_layers,
        ffn_dim=stage.text_ffn,
    )  # fmt: skip
    with torch.device("meta"):
        parts = (Autoencoder(recipe.autoencoder.model), Transformer(stage.transformer), TextEncoder(words))
    size = sum(2 * weight.numel() for part in parts for weight in part.parameters())
    assert size < 64e6 - 2.5e6  # the probe, the tokenizer and the headers


def test_every_length_is_compiled_for_before_the_rate_is_measured():
    for piece in RECIPES["gpu"].denoiser.pieces:
        shares = np.array(list(piece.joint.lengths.values()))
        steps = range(piece.train.settle_steps)
        draws = (np.random.default_rng([piece.train.seed, step]) for step in steps)
        met = {int(draw.choice(list(piece.joint.lengths), p=shares / shares.sum())) for draw in draws}
        assert met == set(piece.joint.lengths)


# Rates ---


def test_rates_are_told_row_by_row(tmp_path, capsys):
    asked = ["--toy", "--only", "denoise", "--modes", "eager", "--save", str(tmp_path / "r.json")]
    assert step_speed.main(asked) == 0
    [row] = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert row["name"] == "denoise 64 x 1, eager" and not row["fault"]
    assert row["seconds"] > 0 and row["teraflop"] > 0
    assert "samples/s" in capsys.readouterr().out


def test_training_steps_are_those_of_the_loop():
    with step_speed.training(64, 1, step_speed.TOY, compiled=False) as step:
        assert [step().step, step().step] == [1, 2]


def test_a_row_that_fails_says_why():
    make = partial(step_speed.training, -1, 1, step_speed.TOY)
    row = step_speed.measure("odd", make, 1, compiled=False, steps=1)
    assert row.fault and "failed: " in str(row)


# Waits --------------------------------------------------------------------------------------------


def test_waits_are_counted_by_what_torch_says_of_them(monkeypatch):
    """On a GPU torch warns of each; here the work itself does."""
    waits = import_module("waits")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)

    def work():
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)

    assert waits.waits(work) == 2


@pytest.mark.slow
def test_a_step_is_told_apart_from_a_film():
    waits = import_module("waits")
    rows = waits.measured(Pipeline(tiny_model(), precision="float32", device="cpu"), steps=1)
    assert {row["waits a step"] for row in rows.values()} == {0.0}
    assert all(0 < row["host s"] <= row["film s"] for row in rows.values())
