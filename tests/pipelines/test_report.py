"""The agreement report on pipelines that are known to obey, or not to."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mutoscope.data.captions import full_caption
from mutoscope.data.world import SMALL, Scene, draw
from mutoscope.evaluation.probe import Probe, ProbeConfig
from mutoscope.pipelines import Pipeline, Request
from mutoscope.pipelines.report import AgreementReport, agreement_report
from mutoscope.pipelines.saved import Stage
from mutoscope.video import Refusal, Video
from tiny import tiny_model

SIZE, FRAMES, FPS = (48, 32), 2, 12.0
TOLD = {"light": ("day", "night"), "style": ("flat illustration", "pencil sketch")}


def scene(index: int) -> Scene:
    """Day and night by turns, all else alike but the seed."""
    one = replace(SMALL.scene(0, index), weather="clear", place="park", style="flat illustration")
    return replace(one, light=("day", "night")[index % 2])


PROMPTS = [(f"{full_caption(scene(i))} {i}", scene(i)) for i in range(6)]


class LightMeter(nn.Module):
    """A probe made by hand: dark is night, and all it sees is flat."""

    def __init__(self) -> None:
        super().__init__()
        self.config = ProbeConfig(words=TOLD, frames=FRAMES, size=SIZE, fps=FPS)
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        brightness = x.mean((1, 2, 3, 4))
        flat = torch.ones_like(brightness)
        logits = {
            "light": torch.stack([brightness + 0.4, -brightness - 0.4], 1),
            "style": torch.stack([flat, -flat], 1),
        }
        return {name: 20 * value for name, value in logits.items()}, torch.stack(
            [brightness, x.std((1, 2, 3, 4))], 1
        )


class Studio:
    """A pipeline that draws what is asked, or the opposite light."""

    def __init__(self, *, obeys: bool = True) -> None:
        self.obeys, self.asked = obeys, []

    def request(self, prompt: str, **settings: Any) -> Request:
        usual = {"frames": FRAMES, "size": SIZE, "fps": FPS, "steps": 3, "guidance": 2.0, "sampler": "euler"}
        return Request(prompt=prompt, **usual | settings)

    def films(self, requests: Sequence[Request], *, batch: int = 1) -> Iterator[Video]:
        for request in requests:
            self.asked.append(request)
            wanted = dict(PROMPTS)[request.prompt]
            light = wanted.light if self.obeys else {"day": "night", "night": "day"}[wanted.light]
            shown = replace(wanted, light=light, seed=request.seed + 1000)
            video = draw([shown], frames=FRAMES, size=SIZE, fps=FPS).video[0]
            yield Video.from_tensor(video, fps=FPS)


def run(
    studio: Any, *, seeds: Sequence[int] = (0, 1), **settings: Any
) -> tuple[list[Stage], AgreementReport]:
    events = agreement_report(studio, LightMeter(), prompts=PROMPTS, seeds=seeds, **settings)  # pyright: ignore
    *stages, report = events
    assert isinstance(report, AgreementReport)
    return [stage for stage in stages if isinstance(stage, Stage)], report


@pytest.fixture(scope="module")
def obedient() -> tuple[list[Stage], AgreementReport]:
    return run(Studio())


def test_a_pipeline_that_obeys_agrees_wholly(obedient: tuple[list[Stage], AgreementReport]) -> None:
    _, report = obedient
    assert report.made.attributes["light"].share == 1 and report.made.missed == []
    assert report.ceilings["drawn"].mean == 1
    assert report.made.attributes["light"].clips == 12 and report.made.attributes["light"].prompts == 6


def test_drawn_films_are_at_the_floor(obedient: tuple[list[Stage], AgreementReport]) -> None:
    _, report = obedient
    assert len(report.frechet) == len(report.floor) == 2
    assert 0 < report.ratio < 20
    assert max(report.frechet) < 0.05


def test_every_film_and_drawn_clip_is_a_stage(obedient: tuple[list[Stage], AgreementReport]) -> None:
    stages, _ = obedient
    films = [str(stage) for stage in stages if stage.what == "films, seed 1"]
    assert films == [f"films, seed 1 {i}/6" for i in range(1, 7)]
    assert [stage.done for stage in stages if stage.what == "drawn clips"] == [4, 6]


def test_a_pipeline_that_does_the_opposite_is_found_out() -> None:
    studio = Studio(obeys=False)
    _, report = run(studio, seeds=(3,), pictures=2)
    assert report.made.attributes["light"].share == 0 and report.made.missed == ["light"]
    assert report.ceilings["drawn"].attributes["light"].share == 1
    assert "below half-way" in str(report)
    assert [request.seed for request in studio.asked] == [3 * 6 + i for i in range(6)]


def test_another_world_is_further_than_the_floor() -> None:
    class Night(Studio):
        def films(self, requests: Sequence[Request], *, batch: int = 1) -> Iterator[Video]:
            for _ in requests:
                yield Video(torch.zeros(FRAMES, SIZE[1], SIZE[0], 3, dtype=torch.uint8), FPS)

    _, report = run(Night(), seeds=(0,))
    assert report.ratio > 20
    assert report.made.attributes["light"].share == 0.5


def test_settings_reach_the_request_and_the_report() -> None:
    studio = Studio()
    _, report = run(studio, seeds=(0,), settings={"steps": 7})
    assert {request.steps for request in studio.asked} == {7}
    assert report.settings["steps"] == 7 and report.settings["clips"] == 6
    assert "prompt" not in report.settings and "seed" not in report.settings


def test_the_autoencoders_ceiling_stands_beside_the_drawn_one() -> None:
    model = tiny_model()
    _, report = run(Studio(), seeds=(0,), autoencoder=model.autoencoder)
    assert set(report.ceilings) == {"drawn", "autoencoder"}
    assert report.ceilings["autoencoder"].attributes["light"].share <= 1
    assert "autoencoder" in str(report)


def test_the_report_is_written_whole(obedient: tuple[list[Stage], AgreementReport], tmp_path: Path) -> None:
    _, report = obedient
    facts = json.loads((report.save(tmp_path) / "agreement.json").read_text())
    assert facts["agreement"]["mean"]["share"] == report.made.mean
    assert facts["frechet"]["floor"] == report.floor
    assert facts["settings"]["seeds"] == [0, 1]
    text = (tmp_path / "agreement.txt").read_text()
    assert "Fréchet distance" in text and "12 films of 6 prompts" in text
    assert (tmp_path / "agreement.png").exists()


def test_what_did_not_count_is_said() -> None:
    """A probe that takes every clip for flat: the style of pencil sketches is hidden, and the reader told."""
    sketches = [(text, replace(one, style="pencil sketch")) for text, one in PROMPTS[:2]]
    mixed = [*PROMPTS[2:4], *sketches]
    *_, report = agreement_report(Studio(), LightMeter(), prompts=mixed, seeds=(0,))  # pyright: ignore
    assert isinstance(report, AgreementReport)
    assert ("pencil sketch", "style") in report.hidden
    assert report.made.attributes["style"].clips == 2
    assert "not counted" in str(report) and "style in pencil sketch" in str(report)


def test_a_single_prompt_has_no_distance() -> None:
    events = agreement_report(Studio(), LightMeter(), prompts=PROMPTS[:1], seeds=(0,))  # pyright: ignore
    *_, report = events
    assert isinstance(report, AgreementReport)
    assert report.frechet == [] and math.isnan(report.ratio)
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_real_pipeline_of_random_weights_is_measured_too() -> None:
    pipeline = Pipeline(tiny_model(), precision="float32", device="cpu")
    asked = {"steps": 1, "frames": 5, "size": (32, 32)}
    *_, report = agreement_report(
        pipeline, LightMeter(), prompts=PROMPTS[:2], seeds=(0,), settings=asked  # pyright: ignore
    )  # fmt: skip
    assert isinstance(report, AgreementReport)
    assert 0 <= report.made.mean <= 1 and len(report.frechet) == 1


def test_a_probe_that_has_learnt_nothing_cannot_judge() -> None:
    """What it cannot read in drawn clips does not count, and then nothing is left."""
    torch.manual_seed(0)
    probe = Probe(ProbeConfig(words=TOLD, frames=4, size=(24, 16), widths=(4, 4, 8, 8), features=4))
    with pytest.raises(Refusal, match="train the probe for longer"):
        list(agreement_report(Studio(), probe, prompts=PROMPTS[:2], seeds=(0,)))  # pyright: ignore


@pytest.mark.parametrize(("prompts", "seeds"), [([], (0,)), (PROMPTS, ())])
def test_nothing_to_ask_is_refused(prompts: list[tuple[str, Scene]], seeds: tuple[int, ...]) -> None:
    with pytest.raises(Refusal, match="at least one of each"):
        list(agreement_report(Studio(), LightMeter(), prompts=prompts, seeds=seeds))  # pyright: ignore
