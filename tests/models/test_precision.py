"""The door of precision: what is chosen where, and that preparing a network leaves the original alone."""

import pytest
import torch

from mutoscope.models import precision
from mutoscope.models.image_autoencoder import ImageAutoencoder, ImageAutoencoderConfig
from mutoscope.models.precision import default_device, fast_dtype, prepared
from tiny import stirred, tiny_model

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("able", "dtype"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True, "avx512_f": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_processors_with_fast_bf16_use_it(
    able: dict[str, bool], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert fast_dtype("cpu") == dtype


@pytest.mark.parametrize(("capability", "dtype"), [((9, 0), torch.bfloat16), ((7, 5), torch.float32)])
def test_cards_with_fast_bf16_use_it(
    capability: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert fast_dtype("cuda:0") == dtype


def test_another_device_stays_in_fp32() -> None:
    assert fast_dtype("mps") == torch.float32


def test_a_setting_decides_by_itself() -> None:
    assert fast_dtype("cpu", precision="float32") == torch.float32
    assert fast_dtype("mps", precision="bfloat16") == torch.bfloat16


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.torch.cuda, "is_available", lambda: True)
    assert default_device().type == "cuda"
    monkeypatch.setattr(precision.torch.cuda, "is_available", lambda: False)
    assert default_device().type == "cpu"


def test_a_copy_is_lowered_and_the_original_stays() -> None:
    model = tiny_model()
    model.autoencoder.train()
    for network in (model.transformer, model.autoencoder):
        ready = prepared(network, torch.bfloat16, device=CPU)
        assert ready is not network
        assert {p.dtype for p in network.parameters()} == {torch.float32}
        assert all(p.requires_grad for p in network.parameters())
        assert not any(p.requires_grad for p in ready.parameters())
        assert not ready.training
    assert model.autoencoder.training


def test_in_place_nothing_is_copied() -> None:
    model = tiny_model()
    assert prepared(model.transformer, torch.bfloat16, device=CPU, in_place=True) is model.transformer


def test_a_transformer_keeps_its_islands_of_fp32() -> None:
    ready = prepared(tiny_model().transformer, torch.bfloat16, device=CPU)
    assert {p.dtype for p in ready.time.first.parameters()} == {torch.float32}
    assert ready.head.weight.dtype == torch.bfloat16


def test_an_autoencoder_lies_channels_last() -> None:
    ready = prepared(tiny_model().autoencoder, torch.float32, device=CPU)
    weight = ready.decoder.first.weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("temporal", [False, True])
def test_an_image_autoencoder_lies_channels_last_and_stays_near_itself_in_bf16(temporal: bool) -> None:
    config = ImageAutoencoderConfig(widths=(8, 16), blocks=1, groups=4, temporal=temporal)
    autoencoder = ImageAutoencoder(config)
    stirred(autoencoder)
    ready = prepared(autoencoder, torch.bfloat16, device=CPU)
    assert ready.decoder.first.weight.is_contiguous(memory_format=torch.channels_last)
    z = torch.randn(1, 4, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = autoencoder.decode(z), ready.decode(z.bfloat16())
    assert found.dtype == torch.bfloat16
    assert ((found - wanted).norm() / wanted.norm()).item() < 0.05
