"""Named, complete runs of hierarchies of U-Nets on latents, beside those of `recipes`.

align-smoke   Align Your Latents on tiny clips, every stage of it, in seconds: for tests and newcomers
align         the whole path at a size for two processor cores: 64x40 and 1.5 key frames a second, filled in
              to 24 a second and enlarged to 256x160
align-gpu     the same, larger, for one GPU: 96x64, enlarged to 384x256, the whole vocabulary
lvdm          LVDM's hierarchy at the size of align: masks, noisy context, all weights learn on key frames
"""

from typing import Any

from mutoscope.checkpoints.hierarchy_folder import HierarchyFacts
from mutoscope.models.image_autoencoder import ImageAutoencoderConfig
from mutoscope.models.precision import Precision
from mutoscope.models.unet_config import TimeConfig, UNetConfig, enlarging
from mutoscope.training.autoencoder import ReconstructionSettings
from mutoscope.training.footage import ClipSettings
from mutoscope.training.hierarchy_course import CodingPiece, HierarchyRecipe, LargerStage
from mutoscope.training.known import KnownSettings
from mutoscope.training.loop import TrainSettings
from mutoscope.training.optimizer import OptimizerSettings
from mutoscope.training.pixel_course import TextSettings, UNetPiece
from mutoscope.training.video_unet import DETAIL, MUON, WIDE, UNetSettings

__all__ = ["HIERARCHY_RECIPES"]

CODING = OptimizerSettings(muon_lr=0.025, adamw_lr=3e-3)
# Decay is for where words are learnt, by MUON itself.
STEADY = MUON.model_copy(update={"weight_decay": 0.0})


def _coder(widths: tuple[int, ...], *, z: int) -> ImageAutoencoderConfig:
    """What AutoencoderKLTemporalDecoder can be: 32 groups, two blocks a stage, nothing before the decoder."""
    return ImageAutoencoderConfig(widths=widths, z_dim=z, before_decoder=False)


def _network(
    channels: tuple[int, ...], *, latents: int, text: int, layers: int, head: int = 32, groups: int = 8
) -> UNetConfig:
    """Of pictures; attention everywhere but at the finest level."""
    return UNetConfig(
        in_channels=latents, out_channels=latents, channels=channels, layers=layers, groups=groups,
        attention=(False, *(True for _ in channels[1:])), heads=tuple(width // head for width in channels),
        text_dim=text,
    )  # fmt: skip


def _training(
    *, seed: int, steps: int | None = None, minutes: float | None = None, ema: float = 0.99,
    decay: float = 0.3, precision: Precision = "auto", warmup: int = 20, log: int = 20,
    optimizer: OptimizerSettings = STEADY, **rest: Any,
) -> TrainSettings:  # fmt: skip
    return TrainSettings(
        steps=steps, minutes=minutes, seed=seed, optimizer=optimizer, warmup_steps=warmup, ema=ema,
        decay_share=decay, precision=precision, log_steps=log, **rest,
    )  # fmt: skip


def _tiny(steps: int, *, seed: int, optimizer: OptimizerSettings = STEADY) -> TrainSettings:
    return _training(
        steps=steps, seed=seed, ema=0.9, precision="float32", warmup=1, log=1, optimizer=optimizer
    )


# What is known: none to two frames before, every `every`-th frame, or the whole film, small and noisy.
PREDICTION = KnownSettings(kind="prediction", context=(0, 1, 2))
BETWEEN = KnownSettings(kind="interpolation", every=4, unconditional=0.1)
SMALL = KnownSettings(kind="small", factor=4, noise=0.3)

ALIGN_SMOKE = HierarchyRecipe(
    about="Align Your Latents on tiny clips, every stage, in seconds; its films are noise",
    clips=ClipSettings(frames=3, width=16, height=16, fps=8.0),
    chain=HierarchyFacts(
        keys=3, context=1, context_guidance=1.5, every=2, rounds=2, span=3, scale=2, chunk=4, overlap=1,
        steps_between=2, steps_larger=2,
    ),
    coder=_coder((32, 32), z=4),
    autoencoder=CodingPiece(
        terms=ReconstructionSettings(batch=2), train=_tiny(3, seed=1, optimizer=CODING)
    ),
    measure=1,
    latents=8,
    network=_network((16, 32), latents=4, text=32, layers=1, head=16),
    text=TextSettings(layers=1, heads=2, head_dim=16, ffn_dim=64, tokens=400),
    pictures=UNetPiece(unet=UNetSettings(clips=2, frames=0, pictures=4), train=_tiny(4, seed=2)),
    keys=UNetPiece(
        unet=UNetSettings(clips=2, frames=3, trainable="temporal", known=PREDICTION), train=_tiny(3, seed=3)
    ),
    decoder=CodingPiece(
        terms=ReconstructionSettings(batch=1, adversary=0.01, adversary_from=1), frames=3,
        train=_tiny(3, seed=4, optimizer=CODING),
    ),
    between=UNetPiece(
        unet=UNetSettings(
            clips=2, frames=3, trainable="temporal", known=BETWEEN.model_copy(update={"every": 2})
        ),
        train=_tiny(3, seed=5),
    ),
    larger=LargerStage(
        network=enlarging((16, 16)),
        pictures=UNetPiece(
            unet=UNetSettings(
                clips=1, frames=0, pictures=2, patch=(16, 16), known=SMALL.model_copy(update={"factor": 2}),
                process=DETAIL,
            ),
            train=_tiny(3, seed=6),
        ),
        clips=UNetPiece(
            unet=UNetSettings(
                clips=1, frames=2, patch=(16, 16), known=SMALL.model_copy(update={"factor": 2}),
                trainable="temporal", process=DETAIL,
            ),
            train=_tiny(3, seed=7),
        ),
    ),
    steps=3,
    threads=1,
)  # fmt: skip

ALIGN = HierarchyRecipe(
    about="Align Your Latents, the whole path, for two cores with fast bfloat16: 256x160, 24 a second",
    clips=ClipSettings(frames=8, width=64, height=40, fps=24.0),
    chain=HierarchyFacts(context_guidance=1.25, steps_between=10, steps_larger=4),
    coder=_coder((32, 32, 64), z=8),
    autoencoder=CodingPiece(
        terms=ReconstructionSettings(batch=16, kl=1e-3),
        train=_training(steps=180, seed=1, optimizer=CODING, warmup=15),
    ),
    latents=384,
    network=_network((64, 128), latents=8, text=64, layers=1),
    text=TextSettings(heads=2, ffn_dim=160),
    pictures=UNetPiece(
        unet=UNetSettings(clips=4, frames=0, pictures=12, times=WIDE),
        train=_training(steps=230, seed=2, optimizer=MUON),
    ),
    keys=UNetPiece(
        unet=UNetSettings(clips=4, frames=8, trainable="temporal", known=PREDICTION),
        train=_training(steps=190, seed=3),
    ),
    decoder=CodingPiece(
        terms=ReconstructionSettings(batch=2, adversary=0.02, adversary_from=32), frames=4,
        train=_training(steps=80, seed=4, optimizer=CODING),
    ),
    between=UNetPiece(
        unet=UNetSettings(clips=6, frames=5, trainable="temporal", known=BETWEEN),
        train=_training(steps=120, seed=5),
    ),
    larger=LargerStage(
        network=enlarging((16, 32, 64)),
        pictures=UNetPiece(
            unet=UNetSettings(
                clips=2, frames=0, pictures=4, patch=(64, 64), known=SMALL, process=DETAIL
            ),
            train=_training(steps=140, seed=6),
        ),
        clips=UNetPiece(
            unet=UNetSettings(
                clips=2, frames=4, patch=(64, 64), known=SMALL, trainable="temporal", process=DETAIL
            ),
            train=_training(steps=70, seed=7),
        ),
    ),
    threads=1,  # clips are drawn by the other core
)  # fmt: skip

# Any frames may be known, or none in half of the examples, and what is known is noisy: so one network is
# asked every question, can be guided by its context, and does not trust its own mistakes (2211.13221).
LVDM = ALIGN.model_copy(
    update={
        "about": "LVDM's hierarchy at the size of align: masks, noisy context, attention alone over frames",
        "chain": ALIGN.chain.model_copy(update={"context_guidance": 1.1, "context_noise": 0.1}),
        "time": TimeConfig(),
        "pictures": UNetPiece(unet=ALIGN.pictures.unet, train=_training(steps=200, seed=2, optimizer=MUON)),
        "keys": UNetPiece(
            unet=UNetSettings(
                clips=4, frames=8, times=WIDE,
                known=KnownSettings(kind="random", unconditional=0.5, noise=0.25),
            ),
            train=_training(steps=300, seed=3, optimizer=MUON),
        ),
        "between": UNetPiece(
            unet=UNetSettings(
                clips=6, frames=5, trainable="temporal", known=BETWEEN.model_copy(update={"noise": 0.25})
            ),
            train=_training(steps=150, seed=5),
        ),
    }
)  # fmt: skip


def _minutes(minutes: float, *, seed: int, ema: float = 0.999, **rest: Any) -> TrainSettings:
    """On a GPU checkpoints are written by the clock: a thousand steps take a minute."""
    return _training(
        minutes=minutes, seed=seed, ema=ema, warmup=100, log=50, checkpoint_steps=10**6, settle_steps=20,
        measure_steps=60, **rest,
    )  # fmt: skip


# Sized to come back: two networks, upscaler and autoencoder are to fit into 63 MiB in bfloat16.
ALIGN_GPU = HierarchyRecipe(
    about="Align Your Latents at 384x256, 24 a second, the whole vocabulary, for one GPU",
    clips=ClipSettings(vocabulary="full", frames=8, width=96, height=64, fps=24.0),
    chain=HierarchyFacts(
        span=9, context_guidance=1.25, chunk=16, overlap=4, steps_between=16, steps_larger=8
    ),
    coder=_coder((64, 64, 128), z=8),
    autoencoder=CodingPiece(
        terms=ReconstructionSettings(batch=96, kl=1e-3),
        train=_minutes(1.2, seed=1, optimizer=CODING),
    ),
    latents=4096,
    network=_network((64, 128, 128), latents=8, text=192, layers=1),
    text=TextSettings(heads=3, head_dim=64, ffn_dim=480),
    pictures=UNetPiece(
        unet=UNetSettings(clips=32, frames=0, pictures=12), train=_minutes(1.2, seed=2, ema=0.998)
    ),
    keys=UNetPiece(
        unet=UNetSettings(clips=32, frames=8, trainable="temporal", known=PREDICTION),
        train=_minutes(1.3, seed=3, ema=0.998),
    ),
    decoder=CodingPiece(
        terms=ReconstructionSettings(batch=8, adversary=0.02, adversary_from=200), frames=6,
        train=_minutes(0.5, seed=4, ema=0.99, optimizer=CODING),
    ),
    between=UNetPiece(
        unet=UNetSettings(clips=24, frames=9, trainable="temporal", known=BETWEEN),
        train=_minutes(1, seed=5, ema=0.998),
    ),
    larger=LargerStage(
        network=enlarging((32, 64, 96), head=32),
        pictures=UNetPiece(
            unet=UNetSettings(clips=8, frames=0, pictures=4, patch=(128, 128), known=SMALL),
            train=_minutes(0.8, seed=6, ema=0.998),
        ),
        clips=UNetPiece(
            unet=UNetSettings(clips=4, frames=8, patch=(96, 96), known=SMALL, trainable="temporal"),
            train=_minutes(0.7, seed=7, ema=0.99),
        ),
    ),
    steps=32,
)  # fmt: skip

HIERARCHY_RECIPES = {"align-smoke": ALIGN_SMOKE, "align": ALIGN, "align-gpu": ALIGN_GPU, "lvdm": LVDM}
