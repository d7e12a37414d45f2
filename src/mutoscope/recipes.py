"""Named, complete runs: `mutoscope train NAME` is one of these, with any setting changed by its dotted name.

smoke   both networks end to end on small clips, under a minute on one core: for tests and newcomers
cpu     the model that a 2-core CPU trains in about two hours
gpu     the same course, larger, for 20 to 25 minutes of a data-centre GPU
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from mutoscope.diffusion.objective import TrainingTimes
from mutoscope.hierarchy_recipes import HIERARCHY_RECIPES
from mutoscope.models.autoencoder import AutoencoderConfig
from mutoscope.models.transformer import TransformerConfig
from mutoscope.training.autoencoder import ReconstructionSettings
from mutoscope.training.course import AutoencoderStage, ClipSettings, DenoiserStage, Piece, Recipe
from mutoscope.training.denoiser import JointSettings
from mutoscope.training.hierarchy_course import HierarchyRecipe
from mutoscope.training.loop import TrainSettings
from mutoscope.training.optimizer import OptimizerSettings
from mutoscope.training.pixel_course import PixelRecipe
from mutoscope.unet_recipes import UNET_RECIPES
from mutoscope.video import Refusal

__all__ = ["RECIPES", "resolve"]

MUON = OptimizerSettings(muon_lr=0.02, adamw_lr=1e-3)
MUON_CONVOLUTIONS = OptimizerSettings(muon_lr=0.025, adamw_lr=3e-3)
# What all frames share (who, where in the picture, which way) can be read from the noisy film until t is very
# near 1: only there do words decide it, so training must go there often (docs/journal.md).
STILLS = TrainingTimes(shift=6.0, std=1.7)
FILMS = STILLS.model_copy(update={"independent": 0.15})


def _autoencoder(
    base: int, z: int, *, blocks: int, stages: int = 2, decoder: int | None = None
) -> AutoencoderConfig:
    """Wan 2.2's layout with pixels folded 4x4: 8x8 in space for two stages, 2 in time a step down."""
    return AutoencoderConfig(
        residual=True, patch_size=4, base_dim=base, decoder_base_dim=decoder or base, z_dim=z,
        num_res_blocks=blocks, dim_mult=(1,) * stages, temporal_downsample=(True,) * (stages - 1),
    )  # fmt: skip


def _transformer(
    width: int, layers: int, *, channels: int, patch: int = 2, text: int | None = None
) -> TransformerConfig:
    return TransformerConfig(
        heads=width // 64, head_dim=64, in_channels=channels, out_channels=channels, text_dim=text or width,
        ffn_dim=4 * width, layers=layers, patch_size=(1, patch, patch),
    )  # fmt: skip


SMOKE = Recipe(
    about="autoencoder and denoiser end to end in under a minute on one core; its films are blurs",
    clips=ClipSettings(frames=5, width=48, height=32),
    autoencoder=AutoencoderStage(
        model=_autoencoder(16, 8, blocks=1),
        terms=ReconstructionSettings(batch=2),
        frames=5,
        train=TrainSettings(steps=40, optimizer=MUON_CONVOLUTIONS, warmup_steps=5, ema=0.9, log_steps=5),
        measure=2,
    ),
    latents=64,
    denoiser=DenoiserStage(
        transformer=_transformer(64, 2, channels=8),
        text_layers=1,
        text_ffn=128,
        pieces=(
            Piece(
                joint=JointSettings(lengths={1: 1.0}, frames_a_step=16),
                train=TrainSettings(steps=20, optimizer=MUON, warmup_steps=5, ema=0.9, log_steps=5),
            ),
            Piece(
                joint=JointSettings(lengths={1: 0.3, 3: 0.7}, frames_a_step=24),
                train=TrainSettings(steps=40, optimizer=MUON, warmup_steps=5, ema=0.9, log_steps=5),
            ),
        ),
    ),
    steps=8,
    threads=1,
)

CPU = Recipe(
    about="the model that ships: 96x64, 25 frames, about two hours on two cores with fast bfloat16",
    autoencoder=AutoencoderStage(
        model=_autoencoder(64, 24, blocks=2),
        terms=ReconstructionSettings(batch=4, kl=1e-3),
        train=TrainSettings(
            minutes=40, seed=1, optimizer=MUON_CONVOLUTIONS, warmup_steps=15, ema=0.998, decay_share=0.3,
            precision="auto", log_steps=20,
        ),
    ),
    latents=5120,
    denoiser=DenoiserStage(
        transformer=_transformer(256, 6, channels=24),
        pieces=(
            Piece(
                joint=JointSettings(
                    lengths={1: 1.0}, frames_a_step=96, figure=3.0, text_length=28, times=STILLS,
                ),
                train=TrainSettings(
                    minutes=10, seed=2, optimizer=MUON, warmup_steps=50, ema=0.995, decay_share=0.0,
                    precision="auto", log_steps=20,
                ),
            ),
            Piece(
                joint=JointSettings(
                    lengths={1: 0.1, 4: 0.25, 13: 0.65},
                    frames_a_step=208, figure=3.0, text_length=28,
                    times=FILMS,
                ),
                train=TrainSettings(
                    minutes=54, seed=3, optimizer=MUON, warmup_steps=50, ema=0.999, decay_share=0.3,
                    precision="auto", log_steps=20,
                ),
            ),
        ),
    ),
)  # fmt: skip

# Sized by counting (benchmarks/gpu/README.md): 60.9 MB in bfloat16, and a million views of clips if the GPU
# does 19 % of its peak. The rate is measured after every length of clips has been compiled for; checkpoints
# are written by the clock, since a thousand steps take a minute.
GPU = Recipe(
    about="160x96, 33 frames, whole vocabulary; 20 to 25 minutes of one H100 or H200",
    clips=ClipSettings(vocabulary="full", frames=33, width=160, height=96),
    autoencoder=AutoencoderStage(
        model=_autoencoder(64, 32, blocks=2, decoder=96),
        terms=ReconstructionSettings(batch=24, kl=1e-3),
        frames=17,
        train=TrainSettings(
            minutes=7, seed=1, optimizer=MUON_CONVOLUTIONS, warmup_steps=100, ema=0.999, decay_share=0.3,
            precision="auto", log_steps=50, checkpoint_steps=10**6,
            settle_steps=50, measure_steps=100,
        ),
        measure=8,
    ),
    latents=32768,
    denoiser=DenoiserStage(
        transformer=_transformer(384, 9, channels=32, text=256),
        pieces=(
            Piece(
                joint=JointSettings(
                    lengths={1: 1.0}, frames_a_step=1024, figure=3.0, compiled=True, times=STILLS
                ),
                train=TrainSettings(
                    minutes=2, seed=2, optimizer=MUON, warmup_steps=100, ema=0.995, decay_share=0.0,
                    precision="auto", log_steps=50, checkpoint_steps=10**6,
                    settle_steps=20, measure_steps=60,
                ),
            ),
            Piece(
                joint=JointSettings(
                    lengths={1: 0.1, 5: 0.2, 17: 0.7}, frames_a_step=2176, figure=3.0, compiled=True,
                    times=FILMS,
                ),
                train=TrainSettings(
                    minutes=11, seed=3, optimizer=MUON, warmup_steps=200, ema=0.999, decay_share=0.3,
                    precision="auto", log_steps=50, checkpoint_steps=10**6,
                    settle_steps=30, measure_steps=100,
                ),
            ),
        ),
    ),
    steps=28,
)  # fmt: skip

RECIPES = {"smoke": SMOKE, "cpu": CPU, "gpu": GPU}


AnyRecipe = Recipe | PixelRecipe | HierarchyRecipe


def resolve(name: str, changes: Mapping[str, str] | None = None) -> AnyRecipe:
    """The recipe of a name with some settings changed.

    Args:
        name: one of RECIPES, UNET_RECIPES or HIERARCHY_RECIPES.
        changes: dotted name of a setting -> value as text (JSON where it is not a word). Any ending that
            only one setting has will do; pieces of the denoiser count from 1 (`pieces.2.train.minutes`).

    Raises:
        Refusal: no such recipe or setting, an ending that several settings have, or a value out of range.
    """
    known_recipes: dict[str, AnyRecipe] = {**RECIPES, **UNET_RECIPES, **HIERARCHY_RECIPES}
    if name not in known_recipes:
        raise Refusal(f"no recipe {name!r}; {_near(name, list(known_recipes))}")
    recipe = known_recipes[name]
    settings = recipe.model_dump(mode="json")
    known = dict(_leaves(recipe.model_dump(mode="json")))
    for key, text in (changes or {}).items():
        path = _full_name(key, list(known))
        at: Any = settings
        for part in path.split(".")[:-1]:
            at = at[int(part) - 1] if isinstance(at, list) else at[part]
        at[path.split(".")[-1]] = value = _value(text)
        # The two lengths of a run exclude each other.
        if path.endswith((".steps", ".minutes")) and value is not None:
            at[("minutes", "steps")[path.endswith(".minutes")]] = None
    try:
        return type(recipe).model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part + 1) if isinstance(part, int) else part for part in first["loc"])
        # What is wrong between several settings says which; all of them would hide it.
        found = "" if isinstance(first["input"], dict) else f" is {first['input']!r}"
        said = f"{where}{found}: " if where or found else ""
        raise Refusal(f"recipe {name!r}: {said}{first['msg'].lower()}") from None


def _leaves(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    items = enumerate(settings, start=1) if isinstance(settings, list) else settings.items()
    for key, value in items:
        nested = isinstance(value, dict) or (
            isinstance(value, list) and any(isinstance(v, dict) for v in value)
        )
        if nested and value:
            yield from _leaves(value, f"{prefix}{key}.")
        yield f"{prefix}{key}", value


def _full_name(key: str, known: list[str]) -> str:
    key = key.replace("-", "_")
    if key in known:
        return key
    fitting = [path for path in known if path.endswith(f".{key}")]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise Refusal(f"setting {key!r} could be {', '.join(fitting[:6])}; say more of its name")
    raise Refusal(f"no setting {key!r}; {_near(key, known)}")


def _near(word: str, known: list[str]) -> str:
    endings = {path: path for path in known} | {path.rsplit(".", 1)[-1]: path for path in known}
    close = difflib.get_close_matches(word, list(endings), n=1)
    few = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
    return f"did you mean {endings[close[0]]}?" if close else f"there are {few}"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
