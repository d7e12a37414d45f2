"""Named, complete runs of the U-Net family, beside those of `recipes`.

vdm-smoke   Video Diffusion Models on tiny clips of the made world, end to end: for tests and newcomers
vdm         the same at a size for patient processors: pictures, then short clips, then clips in full, with
            pictures beside them
vdm-gpu     the same, larger, for one GPU

vdm-larger-smoke, vdm-larger      a stage of a cascade: it makes films of those above twice as wide and high
vdm-between-smoke, vdm-between    another: it makes of 2 frames a second of them 8
"""

from mutoscope.diffusion.objective import Weighting
from mutoscope.diffusion.process import Process
from mutoscope.models.precision import Precision
from mutoscope.models.unet_config import UNetConfig, align, enlarging, vdm
from mutoscope.training.footage import ClipSettings
from mutoscope.training.known import KnownSettings
from mutoscope.training.loop import TrainSettings
from mutoscope.training.optimizer import OptimizerSettings
from mutoscope.training.pixel_course import LinearSettings, PixelRecipe, TextSettings, UNetPiece
from mutoscope.training.video_unet import DETAIL, MUON, WIDE, UNetSettings

__all__ = ["UNET_RECIPES"]

GENTLE = MUON.model_copy(update={"muon_lr": 0.014, "adamw_lr": 1.4e-3})


COLOURS = Process(colours="opponent")
# Every level counts alike before anything is learnt, and more of them are late, where words decide.
EVEN, LATE = Weighting(name="edm"), WIDE.model_copy(update={"shift": 8.0})


def _network(
    channels: tuple[int, ...], *, text: int | None, layers: int, head: int = 32, patch: int = 2,
    told: bool = False,
) -> UNetConfig:  # fmt: skip
    """VDM's on patches, with attention everywhere but at levels of 2x2 pixels or finer, convolutions over
    frames everywhere, a first guess and a finish of pixels. told: it sees what is known of a film beside the
    noise, and has neither of the last two, which were not tried there."""
    attends = tuple(patch * 2**level > 2 for level in range(len(channels)))
    return UNetConfig(
        in_channels=7 if told else 9, out_channels=3, patch_size=patch,
        finish=0 if told else channels[0] // 2,
        channels=channels, layers=layers,
        attention=attends, heads=tuple(width // head for width in channels), groups=8, text_dim=text,
        labels=int(told),
        time=vdm(levels=attends, convs=2),
    )  # fmt: skip


def _step(*, clips: int, frames: int, pictures: int) -> UNetSettings:
    """What a step is made of, at the noise where words decide what a film shows, and where grain goes. The
    figure, a twentieth of the picture that most words are about, weighs more.

    Frames tell together, where each alone tells nothing, what is where, and words say it before them;
    training at even times seldom goes there (docs/journal.md).
    """
    return UNetSettings(
        clips=clips, frames=frames, pictures=pictures, times=LATE, process=COLOURS, figure=3.0, weighting=EVEN
    )


def _training(
    *, seed: int, ema: float, minutes: float | None = None, steps: int | None = None, decay: float = 0.3,
    precision: Precision = "auto", log: int = 20, warmup: int = 50, optimizer: OptimizerSettings = MUON,
) -> TrainSettings:  # fmt: skip
    return TrainSettings(
        minutes=minutes, steps=steps, seed=seed, optimizer=optimizer, warmup_steps=warmup, ema=ema,
        decay_share=decay, precision=precision, log_steps=log,
    )  # fmt: skip


def _tiny(steps: int, *, seed: int, log: int = 2, warmup: int = 1) -> TrainSettings:
    return _training(steps=steps, seed=seed, ema=0.9, precision="float32", log=log, warmup=warmup)


VDM_SMOKE = PixelRecipe(
    about="Video Diffusion Models on tiny clips, end to end; its films are blurs",
    clips=ClipSettings(frames=6, width=24, height=16, fps=6.0),
    network=_network((16, 32), text=32, layers=1, head=16),
    text=TextSettings(layers=1, heads=2, head_dim=16, ffn_dim=64, tokens=400),
    linear=LinearSettings(clips=16),
    pieces=(
        UNetPiece(
            unet=UNetSettings(clips=2, frames=0, pictures=8, process=COLOURS),
            train=_tiny(10, seed=1, log=5, warmup=3),
        ),
        UNetPiece(
            unet=UNetSettings(clips=2, frames=6, pictures=2, process=COLOURS),
            train=_tiny(20, seed=2, log=5, warmup=3),
        ),
    ),
    steps=6,
    threads=1,
)

VDM = PixelRecipe(
    about="Video Diffusion Models at 48x32, 16 frames, for patient processors",
    network=_network((128, 192), text=64, layers=1, patch=4),
    text=TextSettings(heads=2, ffn_dim=160),
    linear=LinearSettings(),
    steps=12,
    shift=10.0,
    guidance=2.0,
    pieces=(
        UNetPiece(
            unet=_step(clips=4, frames=0, pictures=16),
            train=_training(minutes=12, seed=1, ema=0.99, decay=0.0),
        ),
        UNetPiece(
            unet=_step(clips=8, frames=8, pictures=2),
            train=_training(minutes=10, seed=2, ema=0.998, decay=0.0, optimizer=GENTLE),
        ),
        UNetPiece(
            unet=_step(clips=4, frames=16, pictures=4),
            train=_training(minutes=20, seed=3, ema=0.998, decay=0.8, optimizer=GENTLE),
        ),
    ),
)

VDM_GPU = PixelRecipe(
    about="Video Diffusion Models at 96x64, 16 frames, the whole vocabulary, for one GPU",
    clips=ClipSettings(vocabulary="full", frames=16, width=96, height=64, fps=8.0),
    network=_network((96, 160, 192), text=128, layers=1),
    text=TextSettings(heads=4, ffn_dim=320),
    linear=LinearSettings(),
    steps=12,
    shift=10.0,
    guidance=2.0,
    pieces=(
        UNetPiece(
            unet=_step(clips=32, frames=0, pictures=16),
            train=_training(minutes=1.5, seed=1, ema=0.99, decay=0.0),
        ),
        UNetPiece(
            unet=_step(clips=32, frames=16, pictures=8),
            train=_training(minutes=5.5, seed=2, ema=0.998, decay=0.6, optimizer=GENTLE),
        ),
    ),
)

HALF = KnownSettings(kind="small", factor=2, noise=0.3)

VDM_LARGER_SMOKE = PixelRecipe(
    about="a stage of a cascade on tiny patches, end to end; it blurs",
    clips=ClipSettings(frames=4, width=48, height=32, fps=6.0),
    network=enlarging((16, 16), time=align()),
    pieces=(
        UNetPiece(
            unet=UNetSettings(clips=2, frames=0, pictures=4, patch=(16, 16), known=HALF, process=DETAIL),
            train=_tiny(4, seed=1),
        ),
        UNetPiece(
            unet=UNetSettings(clips=2, frames=4, patch=(16, 16), known=HALF, process=DETAIL),
            train=_tiny(4, seed=2),
        ),
    ),
    steps=2,
    threads=1,
)

VDM_LARGER = PixelRecipe(
    about="a stage of a cascade: the films of vdm at 96x64, for patient processors",
    clips=ClipSettings(frames=8, width=96, height=64, fps=8.0),
    network=enlarging((32, 64, 96), time=align()),
    pieces=(
        UNetPiece(
            unet=UNetSettings(clips=4, frames=0, pictures=8, patch=(32, 32), known=HALF, process=DETAIL),
            train=_training(minutes=10, seed=1, ema=0.99, decay=0.0),
        ),
        UNetPiece(
            unet=UNetSettings(clips=4, frames=8, patch=(32, 32), known=HALF, process=DETAIL),
            train=_training(minutes=30, seed=2, ema=0.998),
        ),
    ),
    steps=8,
    sampler="ancestral",
)

FOURTH = KnownSettings(kind="interpolation", every=4)
CHANGE = Process(deviation=0.1, guesses=True)  # half of what fading frames lack

VDM_BETWEEN_SMOKE = PixelRecipe(
    about="a stage of a cascade that puts frames between others, on tiny clips, end to end; they are blurs",
    clips=ClipSettings(frames=5, width=24, height=16, fps=8.0),
    network=_network((16, 32), text=None, layers=1, head=16, told=True),
    pieces=(
        UNetPiece(
            unet=UNetSettings(clips=2, frames=5, known=FOURTH, process=CHANGE),
            train=_tiny(6, seed=1),
        ),
    ),
    steps=2,
    threads=1,
)

VDM_BETWEEN = PixelRecipe(
    about="a stage of a cascade: films at 48x32 get four times the frames, for patient processors",
    clips=ClipSettings(frames=9, width=48, height=32, fps=8.0),
    network=_network((96, 128), text=None, layers=1, patch=4, told=True),
    pieces=(
        UNetPiece(
            unet=UNetSettings(clips=8, frames=9, known=FOURTH, process=CHANGE),
            train=_training(minutes=30, seed=1, ema=0.998),
        ),
    ),
    steps=16,
    sampler="ancestral",
)

UNET_RECIPES = {
    "vdm-smoke": VDM_SMOKE, "vdm": VDM, "vdm-gpu": VDM_GPU, "vdm-larger-smoke": VDM_LARGER_SMOKE,
    "vdm-larger": VDM_LARGER, "vdm-between-smoke": VDM_BETWEEN_SMOKE, "vdm-between": VDM_BETWEEN,
}  # fmt: skip
