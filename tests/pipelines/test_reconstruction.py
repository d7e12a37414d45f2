"""The autoencoder's report on autoencoders whose faults are known."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mutoscope.data.loader import Batch, WorldSource
from mutoscope.data.world import SMALL
from mutoscope.models.autoencoder import Autoencoder, AutoencoderConfig
from mutoscope.pipelines.reconstruction import AutoencoderReport, autoencoder_report, rebuilt
from mutoscope.pipelines.saved import Stage
from mutoscope.video import Refusal

SOURCE = WorldSource(SMALL, frames=4, size=(48, 32), held_out=True)


@dataclass(frozen=True)
class Kept:
    """A posterior that is the clip itself."""

    clip: Tensor

    def mode(self) -> Tensor:
        return self.clip


class Faulty(nn.Module):
    """Keeps clips as they are, but for one fault."""

    def __init__(self, fault: str = "none") -> None:
        super().__init__()
        self.fault, self.weight = fault, nn.Parameter(torch.zeros(1))

    def encode(self, x: Tensor) -> Kept:
        return Kept(x)

    def decode(self, z: Tensor, *, size: tuple[int, int], frames: int) -> Tensor:
        assert size == (z.shape[-1], z.shape[-2]) and frames == z.shape[2]
        if self.fault == "freezes":
            return z[:, :, :1].expand_as(z)
        return z * 0.9 if self.fault == "pale" else z


@dataclass(frozen=True)
class Footage:
    """Clips without scenes, as a folder gives them."""

    frames: int = 4
    size: tuple[int, int] = (48, 32)
    fps: float = 12.0

    def batch(self, step: int, count: int) -> Batch:
        video = SOURCE.batch(step, count).video[:, :, : self.frames]
        return Batch(video, ["a street"] * count, torch.zeros_like(video[:, 0]))


def measured(fault: str, *, count: int = 10, source: WorldSource | Footage = SOURCE) -> AutoencoderReport:
    *stages, report = autoencoder_report(Faulty(fault), source, count=count)  # pyright: ignore
    assert [stage.done for stage in stages if isinstance(stage, Stage)] == [*range(4, count, 4), count]
    assert isinstance(report, AutoencoderReport)
    return report


def test_a_perfect_autoencoder_scores_perfectly() -> None:
    report = measured("none")
    assert report.psnr == math.inf and report.rain_correlation == pytest.approx(1, abs=1e-5)
    assert report.mean("ssim") == pytest.approx(1, abs=1e-5)
    assert report.mean("energy") == pytest.approx(1, abs=1e-5)
    assert report.as_dict()["psnr"] is None  # infinity is no number in JSON


def test_a_frozen_film_has_no_motion_left() -> None:
    report = measured("freezes")
    assert report.mean("energy") == 0 and report.mean("flicker") == 0
    assert math.isnan(report.rain_correlation)


def test_a_pale_film_keeps_the_places_of_things_and_loses_decibels() -> None:
    report = measured("pale")
    assert report.rain_correlation == pytest.approx(1, abs=1e-4)
    assert report.mean("energy") == pytest.approx(0.81, abs=1e-3)
    assert 20 < report.psnr < 40 and 20 < report.mean("figure") < 40


def test_one_nearly_still_clip_does_not_make_the_ratios() -> None:
    usual = measured("pale").rows
    still = replace(usual[0], values=usual[0].values | {"energy": 1e6, "flicker": 1e4})
    report = AutoencoderReport([*usual, still], torch.zeros(1, 1, 3, dtype=torch.uint8))
    assert report.numbers["energy"] == pytest.approx(0.81, abs=1e-3)
    assert report.numbers["flicker"] == pytest.approx(0.9, abs=1e-3)
    assert report.numbers["psnr"] == report.mean("psnr")


def test_groups_are_means_of_their_own_clips() -> None:
    report = measured("pale")
    assert len(report.rows) == 10
    for attribute in ("weather", "style"):
        groups = report.groups(attribute)
        sizes = {w: sum(getattr(row.scene, attribute) == w for row in report.rows) for w in groups}
        weighted = sum(groups[word] * sizes[word] for word in groups) / 10
        assert weighted == pytest.approx(report.psnr)


def test_rain_is_measured_on_rainy_clips_only() -> None:
    report = measured("pale")
    rainy = [r.values["correlation"] for r in report.rows if r.scene and r.scene.weather == "rain"]
    assert rainy and report.rain_correlation == pytest.approx(sum(rainy) / len(rainy))


def test_clips_without_scenes_are_measured_without_groups() -> None:
    report = measured("pale", source=Footage())
    assert report.groups("weather") == {} and math.isnan(report.mean("figure"))
    assert 20 < report.psnr < 40
    still = measured("pale", source=Footage(frames=1))
    assert math.isnan(still.mean("correlation")) and math.isnan(still.mean("flicker"))


def test_it_is_written_whole(tmp_path: Path) -> None:
    report = measured("pale", count=4)
    facts = json.loads((report.save(tmp_path) / "autoencoder.json").read_text())
    assert facts["clips"] == 4 and facts["psnr"] == pytest.approx(report.psnr)
    assert set(facts["psnr_by_style"]) == set(report.groups("style"))
    assert "PSNR on the figure" in (tmp_path / "autoencoder.txt").read_text()
    assert report.sheet.shape[1] > 4 * 48  # four frames in a row


def test_any_size_and_length_goes_through_a_real_autoencoder() -> None:
    torch.manual_seed(0)
    config = AutoencoderConfig(
        base_dim=4, z_dim=4, dim_mult=(1, 2, 2), temporal_downsample=(True, True), patch_size=4, residual=True
    )
    clips = torch.rand(1, 3, 6, 21, 35) * 2 - 1
    made = rebuilt(Autoencoder(config), clips)
    assert made.shape == clips.shape and made.dtype == torch.float32
    assert made.min() >= -1 and made.max() <= 1


def test_no_clips_are_refused() -> None:
    with pytest.raises(Refusal, match="at least one"):
        list(autoencoder_report(Faulty(), SOURCE, count=0))  # pyright: ignore
