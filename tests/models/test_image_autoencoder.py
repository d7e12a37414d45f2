"""The image autoencoder: frames on their own, any size; and the decoder of films that it becomes."""

import hashlib

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor
from torch.nn import functional as F

from mutoscope.models.image_autoencoder import (
    ImageAutoencoder,
    ImageAutoencoderConfig,
    absorb_before_decoder,
    add_time,
    temporal_weights,
)
from mutoscope.video import Refusal
from tiny import stirred

TINY = ImageAutoencoderConfig(widths=(8, 16), blocks=1, z_dim=3, groups=4)
TEMPORAL = TINY.model_copy(update={"temporal": True})


def make(config: ImageAutoencoderConfig = TINY, *, dtype: torch.dtype = torch.float64) -> ImageAutoencoder:
    """Random weights everywhere, so that no zero initialisation hides a mistake."""
    model = ImageAutoencoder(config).to(dtype)
    stirred(model)
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@torch.no_grad()
def test_a_film_is_a_row_of_pictures():
    model, x = make(), noise(2, 3, 4, 6, 8)
    posterior = model.encode(x)
    assert posterior.mean.shape == (2, 3, 4, 3, 4) and model.time_stride == 1
    pixels = model.decode(posterior.mean)
    for k in range(4):
        close(model.encode(x[:, :, k : k + 1]).mean, posterior.mean[:, :, k : k + 1])
        close(model.decode(posterior.mean[:, :, k : k + 1]), pixels[:, :, k : k + 1])


@torch.no_grad()
def test_any_size_is_padded_by_repetition_and_cropped_back():
    model, x = make(), noise(1, 3, 2, 5, 7)
    latents = model.encode(x).mean
    close(latents, model.encode(F.pad(x, (0, 1, 0, 1, 0, 0), mode="replicate")).mean)
    pixels = model.decode(latents, size=(7, 5), frames=1)
    assert pixels.shape == (1, 3, 1, 5, 7)
    close(pixels, model.decode(latents)[:, :, :1, :5, :7])


@pytest.mark.parametrize(
    "wish, words", [({"size": (9, 4)}, "8x4"), ({"frames": 3}, "1..2"), ({"frames": 0}, "1..2")]
)
def test_crops_that_the_latents_cannot_give_are_refused(wish, words):
    with pytest.raises(Refusal, match=words):
        make().decode(noise(1, 3, 2, 2, 4), **wish)


def test_what_a_denoiser_works_on_is_decided_in_one_place():
    config = TINY.model_copy(
        update={"scaling": 0.5, "shift": 1.0, "latents_mean": (0.0, 1.0, 2.0), "latents_std": (1.0, 2.0, 4.0)}
    )
    model, z = ImageAutoencoder(config), noise(2, 3, 2, 2, 2)
    y = model.normalise(z)
    for c, (mean, std) in enumerate(zip(config.latents_mean, config.latents_std, strict=True)):
        close(y[:, c], (z[:, c] - mean - 1.0) * 0.5 / std)
    close(model.denormalise(y), z)
    assert torch.equal(ImageAutoencoder(TINY).normalise(z), z)


@pytest.mark.parametrize("config", [TINY, TINY.model_copy(update={"after_encoder": False}), TEMPORAL])
@torch.no_grad()
def test_a_fresh_model_starts_in_range(config):
    torch.manual_seed(0)
    model, x = ImageAutoencoder(config), noise(2, 3, 3, 8, 8).float()
    posterior = model.encode(x)
    assert 0.1 < posterior.mean.std() < 5
    assert torch.all(posterior.logvar == -6)
    assert model.decode(posterior.mode()).abs().max() < 3


def test_checkpointing_changes_memory_and_not_gradients():
    model, x = make(TEMPORAL), noise(1, 3, 3, 4, 4)

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model.decode(model.encode(x).mean).square().mean().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients()
    model.checkpoint_gradients()
    saved = gradients()
    assert len(plain) == len(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(plain, saved, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_time_begins_as_the_image_decoder_bit_for_bit(dtype):
    image = make(dtype=dtype)
    film, x = add_time(image), noise(2, 3, 4, 6, 8).to(dtype)
    z = image.encode(x).mean
    assert torch.equal(film.encode(x).mean, z)
    assert torch.equal(film.decode(z), image.decode(z))
    assert film.config.temporal and not image.config.temporal
    stirred(film.decoder)
    assert not torch.allclose(film.decode(z), image.decode(z), atol=1e-2)


def test_added_layers_are_all_that_is_new():
    image = make()
    film = add_time(image)
    added = len(temporal_weights(film))
    assert len(film.state_dict()) == len(image.state_dict()) + added > added
    assert all(name.startswith("decoder.") for name, _ in temporal_weights(film))
    assert not temporal_weights(image)
    film.encoder.first.weight.data.zero_()
    assert image.encoder.first.weight.abs().max() > 0, "a copy, not a view"
    with pytest.raises(Refusal, match="already"):
        add_time(film)


@torch.no_grad()
def test_flagged_frames_are_the_image_decoders_whatever_was_learnt():
    image = make()
    film, z = add_time(image), noise(2, 3, 5, 3, 4)
    for _, weight in temporal_weights(film):
        weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)).double())
    images = torch.tensor([[False, False, False, True, True]] * 2)
    pixels = film.decode(z, images=images)
    assert torch.equal(pixels[:, :, 3:], image.decode(z)[:, :, 3:])
    close(pixels[:, :, :3], film.decode(z[:, :, :3]))
    assert torch.equal(film.decode(z, images=torch.ones_like(images)), image.decode(z))


@torch.no_grad()
def test_a_share_of_nothing_is_the_image_decoder():
    image = make()
    film, z = add_time(image), noise(1, 3, 4, 3, 4)
    for name, weight in temporal_weights(film):
        if name.endswith(".mix"):
            weight.fill_(-torch.inf)
        elif "last_time" not in name:
            weight.add_(1.0)
    assert torch.equal(film.decode(z), image.decode(z))


def test_images_teach_the_layers_of_time_nothing():
    film, z = make(TEMPORAL), noise(1, 3, 3, 3, 4)
    film.decode(z, images=torch.ones(1, 3, dtype=torch.bool)).square().mean().backward()
    assert all(weight.grad is None or not weight.grad.any() for _, weight in temporal_weights(film))
    assert film.decoder.first.weight.grad is not None and film.decoder.first.weight.grad.any()


def test_training_the_layers_of_time_leaves_the_encoder_as_it_was():
    def digest(model: ImageAutoencoder) -> str:
        parts = (model.encoder, model.after_encoder)
        weights = [w.detach().numpy().tobytes() for part in parts for w in part.state_dict().values()]
        return hashlib.sha256(b"".join(weights)).hexdigest()

    film, x = add_time(make(dtype=torch.float32)), noise(1, 3, 3, 4, 4).float()
    before = digest(film)
    optimizer = torch.optim.AdamW([weight for _, weight in temporal_weights(film)], lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        (film.decode(film.encode(x).mean.detach()) - x).square().mean().backward()
        optimizer.step()
    assert digest(film) == before
    film.after_encoder.weight.data += 1e-3
    assert digest(film) != before


@pytest.mark.parametrize(
    "change", [{}, {"after_encoder": False}, {"temporal": True, "latents_mean": (1.0, 2.0, 3.0)}]
)
@torch.no_grad()
def test_a_convolution_before_the_decoder_goes_into_its_neighbours(change):
    model, x = make(TINY.model_copy(update=change)), noise(1, 3, 2, 6, 8)
    model.before_decoder.bias.add_(1.0)  # at the border of the picture it would show if it were lost
    made = absorb_before_decoder(model)
    assert made.config.before_decoder is False and model.config.before_decoder
    before, after = model.encode(x), made.encode(x)
    assert not torch.allclose(before.mean, after.mean, atol=0.1)
    close(made.normalise(after.mean), model.normalise(before.mean))
    close(after.logvar, before.logvar)
    close(made.decode(after.mean), model.decode(before.mean))
    with pytest.raises(Refusal, match="no convolution"):
        absorb_before_decoder(made)
    model.before_decoder.weight.zero_()
    with pytest.raises(Refusal, match="inverted"):
        absorb_before_decoder(model)


@pytest.mark.oracle
@torch.no_grad()
def test_a_fresh_decoder_of_diffusers_is_not_the_image_decoder():
    """Theirs begins with a random last convolution over frames and random branches; ours with neither."""
    image = make(ImageAutoencoderConfig(widths=(32, 32), before_decoder=False))
    z = noise(1, 4, 3, 4, 4)
    wanted = image.decode(z)[0].movedim(1, 0)
    torch.manual_seed(0)
    theirs = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=2
    ).double()
    fill(theirs, image)

    def off() -> float:
        made = theirs.decode(z[0].movedim(1, 0), num_frames=3).sample
        return ((made - wanted).abs().max() / wanted.abs().max()).item()

    assert off() > 0.1
    for name, weight in theirs.named_parameters():
        if "temporal_res_block.conv2" in name:
            weight.zero_()
    assert off() > 0.1, "the last convolution alone spoils it"
    torch.nn.init.dirac_(theirs.decoder.time_conv_out.weight)
    torch.nn.init.zeros_(theirs.decoder.time_conv_out.bias)
    assert off() < 1e-10


def fill(theirs: AutoencoderKLTemporalDecoder, image: ImageAutoencoder) -> None:
    """All weights that an image autoencoder has, into the public class."""
    from mutoscope.checkpoints import kl_autoencoder

    film = add_time(image)
    new = {kl_autoencoder.to_public(name) for name, _ in temporal_weights(film)}
    own = {kl_autoencoder.to_public(name): weight for name, weight in film.state_dict().items()}
    _, strange = theirs.load_state_dict({n: w for n, w in own.items() if n not in new}, strict=False)
    assert not strange
