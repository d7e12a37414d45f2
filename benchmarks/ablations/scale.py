"""How large the ablations are: by name, from seconds on a processor to minutes on a GPU."""

from dataclasses import dataclass, replace

from benchmarks.trained.discs import Discs

__all__ = ["SCALES", "Scale", "narrower"]


@dataclass(frozen=True)
class Scale:
    """Pixels of a side, frames, channels of the finest level (twice as many at the next), films and steps of
    a training, films that are measured, and steps of sampling."""

    name: str
    size: int
    frames: int
    width: int
    clips: int
    steps: int
    films: int
    walk: int
    device: str = "cpu"

    @property
    def discs(self) -> Discs:
        return Discs(self.size, self.frames, speed=(self.size / 32, self.size / 8))

    @property
    def coder_width(self) -> int:
        """Channels of an autoencoder's finest level, in groups of 8."""
        return max(8, 2 * self.width // 24 * 8)

    @property
    def told(self) -> str:
        return (
            f"{self.size}x{self.size} pixels, {self.frames} frames, U-Nets of {self.width} and "
            f"{2 * self.width} channels, {self.steps} steps of {self.clips} clips and {self.walk} of "
            f"sampling where nothing else is said, up to {self.films} films measured"
        )


SCALES = {
    "toy": Scale("toy", size=16, frames=8, width=8, clips=2, steps=2, films=4, walk=2),
    "cpu": Scale("cpu", size=16, frames=8, width=24, clips=4, steps=250, films=96, walk=8),
    "gpu": Scale(
        "gpu", size=32, frames=16, width=64, clips=16, steps=2000, films=256, walk=32, device="cuda"
    ),
}


def narrower(scale: Scale) -> Scale:
    """Half the channels, in groups of 8."""
    return replace(scale, width=-(-scale.width // 16) * 8)
