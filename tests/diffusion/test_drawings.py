"""Every file draws what it does, the docs show those drawings, and the numbers in them are right."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from mutoscope.diffusion import drawings
from mutoscope.diffusion.drawings import __main__ as everything
from mutoscope.diffusion.drawings import denoisers, frames, levels, plans, solvers
from mutoscope.diffusion.drawings.figure import Curves, Figure, Heat
from mutoscope.diffusion.drawings.gaussian import affine, ar1, correlations
from mutoscope.diffusion.multistep import Multistep2, UniPc
from mutoscope.diffusion.plan import planned, uniform
from mutoscope.diffusion.rolling import Window
from mutoscope.diffusion.sampler import Euler, Heun
from mutoscope.diffusion.stochastic import Ddim
from mutoscope.video import Refusal

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "src" / "mutoscope" / "diffusion"
DOCS = ROOT / "docs"
FILES = sorted(path.stem for path in ROOM.glob("*.py") if path.stem != "__init__")
LARGEST = 300_000


def said(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What `python -m mutoscope.diffusion.<name>` prints."""
    monkeypatch.setattr(sys, "argv", [name])
    runpy.run_module(f"mutoscope.diffusion.{name}", run_name="__main__")
    return capsys.readouterr().out.rstrip("\n")


def alike(one: str, other: str) -> float:
    """The share of characters that agree, place by place: rounding may move a mark by a cell."""
    return sum(a == b for a, b in zip(one, other, strict=False)) / max(len(one), len(other))


def test_every_file_of_the_room_is_drawn():
    assert sorted(figure.__name__ for figure in everything.FIGURES) == FILES


@pytest.mark.filterwarnings("ignore::RuntimeWarning:runpy")
@pytest.mark.parametrize("name", FILES)
def test_the_command_draws_and_the_docs_have_its_picture(name, monkeypatch, capsys):
    drawn = said(name, monkeypatch, capsys)
    assert len(drawn.splitlines()) > 20 and drawn.isascii()
    path = DOCS / "pictures" / f"{name}.png"
    assert path.stat().st_size <= LARGEST
    with Image.open(path) as picture:
        notes = picture.text
    assert notes["Command"] == f"python -m mutoscope.diffusion.{name} --output {name}.png"
    assert alike(notes["Description"], drawn) > 0.98, f"stale: {notes['Command']} in docs/pictures"


@pytest.mark.parametrize("page", ["mathematics.md", "choosing.md"])
def test_under_every_picture_stands_its_command(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^\]]+\]\(pictures/(\w+)\.png\)\n\n`([^`]+)`", text)
    assert len(shown) == text.count("(pictures/") and {name for name, _ in shown} <= {*FILES}
    for name, command in shown:
        assert command == f"python -m mutoscope.diffusion.{name} --output docs/pictures/{name}.png"
    if page == "mathematics.md":
        assert sorted(name for name, _ in shown) == FILES


def test_a_picture_is_saved_where_it_is_asked_for(tmp_path, monkeypatch, capsys):
    path = tmp_path / "new" / "plan.png"
    monkeypatch.setattr(sys, "argv", ["plan", "--output", str(path)])
    drawings.draw(plans.plan)
    assert capsys.readouterr().out.strip() == str(path)
    with Image.open(path) as picture:
        assert picture.width > 1000 and picture.text["Command"].endswith("diffusion.plan --output plan.png")


def test_all_pictures_are_made_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(everything, "FIGURES", (frames.known,))
    monkeypatch.setattr(sys, "argv", ["drawings", str(tmp_path)])
    everything.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["known.png"]


def test_a_picture_of_another_kind_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plan", "--output", str(tmp_path / "plan.jpg")])
    with pytest.raises(SystemExit, match=r"saved as \.png"):
        drawings.draw(plans.plan)


def test_without_matplotlib_the_way_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "mutoscope.diffusion.drawings.picture", raising=False)
    monkeypatch.delattr(drawings, "picture", raising=False)
    with pytest.raises(Refusal, match=r"needs matplotlib.*mutoscope\[drawings\]"):
        drawings.saved(plans.plan, tmp_path / "plan.png")


def panel(figure: Figure, title: str) -> Curves | Heat:
    [found] = [panel for panel in figure.panels if title in panel.title]
    return found


def curve(figure: Figure, title: str, name: str):
    shown = panel(figure, title)
    assert isinstance(shown, Curves)
    [found] = [curve for curve in shown.curves if curve.name == name]
    return found


def test_densities_are_densities():
    for drawn in panel(levels.objective(), "times drawn").curves:
        assert float(drawn.y.mean()) == pytest.approx(1, abs=1e-6), drawn.name


def test_brightness_is_what_the_closed_form_says():
    table, sizes = levels.scaled_linear_betas(), torch.tensor([1e3, 1e4, 1e6]).double()
    closed = 1 / (1 + table.alpha_bar[-1] * ((sizes + 1) * 0.09 - 1)).sqrt()
    torch.testing.assert_close(levels._brightness(table, sizes), closed, atol=0.02, rtol=0)
    assert float(levels._brightness(levels.zero_terminal(table), sizes).min()) > 0.98


def test_errors_of_predictions_by_hand():
    figure, t = levels.prediction(), levels.INNER
    alpha, sigma = torch.cos(torch.pi / 2 * t), torch.sin(torch.pi / 2 * t)
    for name, film in {"noise": sigma / alpha, "velocity": sigma, "flow": sigma / (alpha + sigma)}.items():
        torch.testing.assert_close(curve(figure, "clean film", name).y, film, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(curve(figure, "in the noise", "clean").y, alpha / sigma, atol=1e-9, rtol=1e-9)


def test_a_jump_is_white_and_a_mix_keeps_its_variance():
    both = panel(frames.pyramid(), "both")
    torch.testing.assert_close(both.values, torch.eye(16).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(
        curve(frames.frequency(), "variance", "any, as here").y, torch.ones(33).double(), atol=1e-9, rtol=0
    )


def test_a_rolling_window_is_a_pyramid_of_the_film():
    seen = plans._levels(Window(4), frames=6)
    assert torch.equal(seen, planned("pyramid", uniform(4), 6).times[: len(seen)])


def test_correlations_in_one_part_are_those_of_the_experiment():
    assert float(plans._correlation(1, lookahead=False)[8]) == pytest.approx(0.6277, abs=2e-3)


def test_calls_in_the_docs():
    calls = {kind: planned(kind, uniform(16), 8).steps for kind in ("pyramid", "blocks", "keyframes")}
    assert calls == {"pyramid": 23, "blocks": 32, "keyframes": 48}


@pytest.mark.parametrize(
    ("sampler", "order"), [(Euler(), 1), (Heun(), 2), (Multistep2(), 2), (UniPc(2), 3)], ids=str
)
def test_errors_fall_as_drawn(sampler, order):
    coarse, fine = (solvers.error(sampler, steps) for steps in (64, 128))
    assert float(torch.tensor(coarse / fine).log2()) == pytest.approx(order, abs=0.15)


def test_the_start_decides_all_without_noise_and_nothing_with_all_of_it():
    assert solvers._decided(0.0, 8) == pytest.approx(1)
    assert solvers._decided(1.0, 8) < 1e-6
    made = solvers._map(Ddim(1.0), 64).covariance().item() ** 0.5
    assert made == pytest.approx(solvers.STD, rel=0.06)


def test_more_looks_bring_the_film_back_more_exactly():
    one, two, five = (solvers._there_and_back(8, looks)[0] for looks in (1, 2, 5))
    assert one > 4 * two > 40 * five


def test_guidance_contracts_as_the_formula_says():
    drawn = panel(denoisers.guidance(), "deviation").curves
    everywhere, band, closed = (each.y for each in drawn)
    torch.testing.assert_close(everywhere, closed, rtol=0.02, atol=0)
    assert (band[1:] > 1.05 * everywhere[1:]).all()


def test_conditioning_is_the_truth_and_replacement_is_not():
    seen = denoisers.Conditioning(
        denoisers.EXACT, denoisers.frames_of(range(denoisers.KNOWN)), denoisers.SEEN, latest=1 - 1e-6
    )
    assert denoisers._far(denoisers._continued(seen)) < 1e-3
    assert denoisers._far(denoisers._reconstructed(0.0)) > 1


def test_correlations_by_distance():
    torch.testing.assert_close(correlations(4 * ar1(0.9, 5)), 0.9 ** torch.arange(5).double())


def test_an_affine_map_is_read_off():
    made = affine(lambda noise: 2 * noise.flip(2) + 1, 3)
    assert torch.equal(made.matrix, 2 * torch.eye(3).flip(0).double())
    assert torch.equal(made.offset, torch.ones(3).double())
