"""Recipes are found by name, changed by dotted names, and refused in one line that says what to write."""

import pytest

from mutoscope.models.transformer import Transformer
from mutoscope.recipes import RECIPES, resolve
from mutoscope.training.course import Recipe
from mutoscope.training.pixel_course import PixelRecipe
from mutoscope.video import Refusal


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_and_resolves_to_itself(name: str):
    assert resolve(name) == RECIPES[name] == Recipe.model_validate(RECIPES[name].model_dump(mode="json"))


@pytest.mark.parametrize("name", RECIPES)
def test_the_parts_of_a_recipe_fit_each_other(name: str):
    recipe = RECIPES[name]
    model, transformer = recipe.autoencoder.model, recipe.denoiser.transformer
    assert transformer.in_channels == transformer.out_channels == model.z_dim
    longest = 1 + -(-(recipe.clips.frames - 1) // model.time_stride)
    for piece in recipe.denoiser.pieces:
        assert max(piece.joint.lengths) <= longest
        assert sum(piece.joint.lengths.values()) == pytest.approx(1)
    cell = model.space_stride * transformer.patch_size[1]
    assert recipe.clips.width % cell == recipe.clips.height % cell == 0
    assert recipe.denoiser.pieces[0].joint.padded_to == recipe.denoiser.pieces[-1].joint.padded_to


def test_the_smoke_recipe_builds_a_small_network():
    weights = Transformer(RECIPES["smoke"].denoiser.transformer).parameters()
    assert sum(weight.numel() for weight in weights) < 1_000_000


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("latents", "7", lambda r: r.latents == 7),
        ("clips.width", "96", lambda r: r.clips.width == 96),
        ("width", "96", lambda r: r.clips.width == 96),
        ("vocabulary", "full", lambda r: r.clips.vocabulary == "full"),
        ("kl", "0.5", lambda r: r.autoencoder.terms.kl == 0.5),
        ("text-layers", "3", lambda r: r.denoiser.text_layers == 3),
        ("frozen_encoder", "true", lambda r: r.autoencoder.terms.frozen_encoder is True),
        ("denoiser.pieces.2.train.seed", "9", lambda r: r.denoiser.pieces[1].train.seed == 9),
        ("pieces.1.train.seed", "9", lambda r: r.denoiser.pieces[0].train.seed == 9),
        ("pieces.1.joint.lengths", "{\"2\": 1}", lambda r: 2 in r.denoiser.pieces[0].joint.lengths),
        ("autoencoder.model.dim_mult", "[1, 2]", lambda r: r.autoencoder.model.dim_mult == (1, 2)),
        ("threads", "null", lambda r: r.threads is None),
        ("pieces.2.joint.noise.name", "mixed", lambda r: r.denoiser.pieces[1].joint.noise.name == "mixed"),
        ("pieces.1.joint.weighting.gamma", "7", lambda r: r.denoiser.pieces[0].joint.weighting.gamma == 7),
    ],
)  # fmt: skip
def test_a_setting_is_changed_by_any_ending_that_only_it_has(key: str, value: str, found):
    assert not found(RECIPES["smoke"])
    assert found(resolve("smoke", {key: value}))


def test_a_change_changes_nothing_else_and_not_the_recipe_itself():
    before = RECIPES["smoke"].model_dump(mode="json")
    changed = resolve("smoke", {"latents": "7", "measure": "3"}).model_dump(mode="json")
    assert RECIPES["smoke"].model_dump(mode="json") == before
    changed["latents"], changed["autoencoder"]["measure"] = (
        before["latents"],
        before["autoencoder"]["measure"],
    )
    assert changed == before


def test_the_full_name_wins_over_endings():
    """`steps` is a setting of its own, and the ending of others."""
    recipe = resolve("smoke", {"steps": "3"})
    assert recipe.steps == 3
    assert recipe.autoencoder.train == RECIPES["smoke"].autoencoder.train


@pytest.mark.parametrize("key", ["seed", "train.steps", "frames_a_step", "frames"])
def test_an_ambiguous_ending_is_refused_with_the_choices(key: str):
    with pytest.raises(Refusal, match=rf"'{key}' could be .*\.{key}, .*; say more of its name"):
        resolve("smoke", {key: "3"})


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("latentz", "did you mean latents?"),
        ("clips.widht", "did you mean clips.width?"),
        ("qqqqq", "there are about"),
    ],
)  # fmt: skip
def test_an_unknown_setting_is_refused_with_a_hint(key: str, hint: str):
    with pytest.raises(Refusal) as refusal:
        resolve("smoke", {key: "3"})
    assert f"no setting {key!r}" in str(refusal.value) and hint in str(refusal.value)


def test_an_unknown_recipe_is_refused_with_a_hint():
    with pytest.raises(Refusal, match=r"no recipe 'smok'; did you mean smoke\?"):
        resolve("smok")
    with pytest.raises(Refusal, match="there are smoke, cpu, gpu"):
        resolve("xyzzy")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("latents", "many", "latents is 'many'"),
        ("latents", "0", "latents is 0"),
        ("clips.vocabulary", "huge", "clips.vocabulary is 'huge'"),
        ("pieces.2.train.ema", "2", "denoiser.pieces.2.train.ema is 2"),
        ("pieces.2.joint.process.schedule", "cosine", "no public scheduler samples that"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(key: str, value: str, said: str):
    with pytest.raises(Refusal) as refusal:
        resolve("smoke", {key: value})
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_steps_and_minutes_exclude_each_other():
    timed = resolve("smoke", {"autoencoder.train.minutes": "2"}).autoencoder.train
    assert (timed.steps, timed.minutes) == (None, 2)
    counted = resolve("cpu", {"pieces.2.train.steps": "5"}).denoiser.pieces[1].train
    assert (counted.steps, counted.minutes) == (5, None)
    both = resolve("vdm", {"pieces.1.train.steps": "5", "pieces.1.train.minutes": "null"})
    assert isinstance(both, PixelRecipe) and both.pieces[0].train.steps == 5
    other = resolve("cpu", {"pieces.2.train.steps": "5"}).denoiser.pieces[0].train
    assert other == RECIPES["cpu"].denoiser.pieces[0].train
