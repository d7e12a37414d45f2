"""The autoencoder: whole = streamed, prefixes, any size and length, trainable from the first step."""

import pytest
import torch
from torch.nn import functional as F

from mutoscope.models.autoencoder import Autoencoder, AutoencoderConfig
from mutoscope.models.causal import Memory
from mutoscope.video import Refusal

LAYOUTS = {
    "plain": AutoencoderConfig(base_dim=4, z_dim=2, num_res_blocks=1),
    "residual": AutoencoderConfig(
        base_dim=4, z_dim=4, dim_mult=(1, 2, 2), temporal_downsample=(True, True), patch_size=4, residual=True
    ),
    "late halving": AutoencoderConfig(
        base_dim=4, z_dim=2, dim_mult=(1, 1, 2), temporal_downsample=(False, True), num_res_blocks=1
    ),
}
layouts = pytest.mark.parametrize("config", LAYOUTS.values(), ids=LAYOUTS.keys())
OURS = LAYOUTS["residual"]


def make(config: AutoencoderConfig, *, dtype: torch.dtype = torch.float64) -> Autoencoder:
    """Random weights everywhere, so that no zero initialisation hides a mistake."""
    generator = torch.Generator().manual_seed(0)
    model = Autoencoder(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return model


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@layouts
@pytest.mark.parametrize("lengths", [(9,), (1, 4, 4), (1,) * 9, (2, 5, 2), (4, 5)])
@torch.no_grad()
def test_streamed_encoding_is_whole_encoding(config, lengths):
    model = make(config)
    x = noise(1, 3, 9, config.space_stride, 2 * config.space_stride)
    parts = list(model.stream_encode(x.split(lengths, dim=2)))
    whole = model.encode(x)
    close(torch.cat([part.mean for part in parts], dim=2), whole.mean)
    close(torch.cat([part.logvar for part in parts], dim=2), whole.logvar)
    assert all(part.mean.shape[2] == 1 for part in parts)


@layouts
@pytest.mark.parametrize("lengths, step", [((4,), 1), ((4,), 2), ((1, 3), 3), ((1, 1, 2), 2), ((3, 1), 9)])
@torch.no_grad()
def test_streamed_decoding_is_whole_decoding(config, lengths, step):
    model, z = make(config), noise(2, config.z_dim, 4, 1, 2)
    parts = list(model.stream_decode(z.split(lengths, dim=2), step=step))
    whole = model.decode(z)
    assert whole.shape[2] == 1 + 3 * config.time_stride
    close(torch.cat(parts, dim=2), whole)


@layouts
@torch.no_grad()
def test_latents_of_a_prefix_are_the_prefix_of_the_latents(config):
    model = make(config)
    x = noise(1, 3, 9, config.space_stride, config.space_stride)
    whole = model.encode(x).mean
    close(model.encode(x[:, :, :5]).mean, whole[:, :, : 1 + 4 // config.time_stride])
    close(model.encode(x[:, :, :1]).mean, whole[:, :, :1])
    close(model.decode(whole[:, :, :2]), model.decode(whole)[:, :, : 1 + config.time_stride])


@pytest.mark.parametrize("frames", [1, 2, 5, 6, 8])
@torch.no_grad()
def test_any_size_and_length_is_padded_by_repetition_and_cropped_back(frames):
    model = make(OURS)
    x = noise(1, 3, frames, 17, 30)
    latents = model.encode(x).mean
    assert latents.shape == (1, OURS.z_dim, 1 + -(-(frames - 1) // 4), 2, 2)
    lacking = -(frames - 1) % 4
    close(latents, model.encode(F.pad(x, (0, 2, 0, 15, 0, lacking), mode="replicate")).mean)
    pixels = model.decode(latents, size=(30, 17), frames=frames)
    assert pixels.shape == x.shape
    close(pixels, model.decode(latents)[:, :, :frames, :17, :30])


@torch.no_grad()
def test_streams_pad_and_crop_as_the_whole_does():
    model = make(OURS)
    x = noise(1, 3, 7, 17, 30)
    latents = model.encode(x).mean
    close(torch.cat([part.mean for part in model.stream_encode(x.split(3, dim=2))], dim=2), latents)
    pixels = torch.cat(list(model.stream_decode([latents], size=(30, 17), frames=7, step=1)), dim=2)
    close(pixels, model.decode(latents, size=(30, 17), frames=7))


@torch.no_grad()
def test_a_stream_stops_reading_when_it_has_its_frames():
    model, read = make(OURS), []

    def latents():
        for i in range(9):
            read.append(i)
            yield noise(1, OURS.z_dim, 1, 1, 1)

    assert sum(part.shape[2] for part in model.stream_decode(latents(), frames=5, step=1)) == 5
    assert len(read) == 2


@torch.no_grad()
def test_memory_of_a_stream_does_not_grow_with_its_length(monkeypatch):
    memories: list[Memory] = []

    class Watched(Memory):
        def __init__(self) -> None:
            super().__init__()
            memories.append(self)

    monkeypatch.setattr("mutoscope.models.autoencoder.Memory", Watched)
    model = make(OURS)
    sizes = []
    for _ in model.stream_decode((noise(1, OURS.z_dim, 1, 1, 1) for _ in range(6)), step=1):
        sizes.append(sum(x.untyped_storage().nbytes() for x in memories[0]._past.values()))
    # The convolutions behind a doubling hold two of the frames that are born in the first two chunks.
    assert sizes[2] == sizes[3] == sizes[4] == sizes[5] > 0


def test_streams_hold_no_gradients():
    model, x = make(OURS), noise(1, 3, 5, 16, 16)
    (first, *_) = model.stream_encode([x])
    assert not first.mean.requires_grad
    assert not any(part.requires_grad for part in model.stream_decode([first.mean]))
    assert model.encode(x).mean.requires_grad


@layouts
def test_checkpointing_changes_memory_and_not_gradients(config):
    model, x = make(config), noise(1, 3, 5, config.space_stride, config.space_stride)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        posterior = model.encode(x)
        model.decode(posterior.sample(noise(*posterior.mean.shape))).square().mean().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients()
    model.checkpoint_gradients()
    saved = gradients()
    assert len(plain) == len(saved) == len(list(model.parameters()))
    for a, b in zip(plain, saved, strict=True):
        assert torch.equal(a, b)
    model.checkpoint_gradients(False)
    assert not model.encoder.checkpointing and not model.decoder.checkpointing


def test_a_fresh_model_learns_at_once():
    torch.manual_seed(0)
    model = Autoencoder(OURS.model_copy(update={"base_dim": 16, "z_dim": 16}))
    grid = torch.linspace(-1, 1, 32)
    x = torch.stack([torch.sin(3 * grid[:, None] + k * grid) for k in range(3)])[None, :, None].repeat(
        1, 1, 5, 1, 1
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = (model.decode(model.encode(x).sample()) - x).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] < 1 and losses[-1] < 0.6 * losses[0]


@layouts
@torch.no_grad()
def test_a_fresh_model_starts_in_range(config):
    torch.manual_seed(0)
    model = Autoencoder(config)
    x = torch.rand(2, 3, 5, 2 * config.space_stride, 2 * config.space_stride) * 2 - 1
    posterior = model.encode(x)
    assert 0.2 < posterior.mean.std() < 5
    assert torch.all(posterior.logvar == -6)
    assert model.decode(posterior.mode()).abs().max() < 3


@torch.no_grad()
def test_bfloat16_in_channels_last_stays_near_float32():
    model = make(OURS, dtype=torch.float32)
    x = noise(1, 3, 5, 32, 32).float()
    wanted = model.encode(x).mean
    model = model.to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.encode(x.to(memory_format=torch.channels_last_3d)).mean
    assert found.dtype == torch.bfloat16
    assert ((found - wanted).norm() / wanted.norm()).item() < 0.05


def test_normalise_takes_mean_and_deviation_off_and_denormalise_puts_them_back():
    config = OURS.model_copy(
        update={"latents_mean": (1.0, 2.0, 3.0, 4.0), "latents_std": (1.0, 2.0, 4.0, 8.0)}
    )
    model, z = Autoencoder(config), noise(2, 4, 3, 2, 2)
    y = model.normalise(z)
    close(y[:, 2], (z[:, 2] - 3) / 4)
    close(model.denormalise(y), z)
    assert torch.equal(Autoencoder(OURS).normalise(z), z)


@torch.no_grad()
def test_the_logvar_is_clamped():
    model = make(OURS)
    assert model.after_encoder.bias is not None
    model.after_encoder.bias[4:] = torch.tensor([100.0, -100.0, 0.0, 0.0])
    logvar = model.encode(noise(1, 3, 1, 16, 16)).logvar
    assert logvar.max() == 20 and logvar.min() == -30


@pytest.mark.parametrize("shape", [(3, 5, 16, 16), (1, 4, 5, 16, 16), (1, 3, 0, 16, 16)])
def test_tensors_that_are_no_video_are_refused(shape):
    with pytest.raises((Refusal, TypeError), match=r"b c f h w|Type-check"):
        Autoencoder(OURS).encode(torch.zeros(shape))


@pytest.mark.parametrize(
    "wish, words",
    [
        ({"size": (33, 16)}, "16x16"),
        ({"size": (16, 0)}, "16x16"),
        ({"frames": 6}, "1..5 frames"),
        ({"frames": 0}, "1..5 frames"),
    ],
)
def test_crops_that_the_latents_cannot_give_are_refused(wish, words):
    with pytest.raises(Refusal, match=words):
        make(OURS).decode(noise(1, 4, 2, 1, 1), **wish)


def test_a_stream_that_ends_early_says_so():
    with pytest.raises(Refusal, match="3 frames short"):
        list(make(OURS).stream_decode([noise(1, 4, 2, 1, 1)], frames=8))


@pytest.mark.parametrize("wish", [{"step": 0}, {"frames": 0}])
def test_streams_of_nothing_are_refused(wish):
    with pytest.raises(Refusal, match="1 or more"):
        next(make(OURS).stream_decode([noise(1, 4, 2, 1, 1)], **wish))
