"""The transformer's laws. That it equals diffusers' stands in tests/checkpoints/test_wan_transformer.py."""

import os
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mutoscope.models.text import Text
from mutoscope.models.transformer import (
    Patches,
    TextMemory,
    Transformer,
    TransformerConfig,
    gated_sum,
    modulated_norm,
    sinusoid,
)

SMALL = TransformerConfig(
    heads=2, head_dim=24, in_channels=6, out_channels=6, text_dim=20, freq_dim=32, ffn_dim=40, layers=2
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stirred(config: TransformerConfig = SMALL) -> Transformer:
    """A model none of whose weights is zero or one, so nothing is hidden by its start."""
    torch.manual_seed(0)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Transformer:
    return stirred()


def words(*lengths: int, n: int = 5, padded_to: int = 512) -> Text:
    mask = torch.arange(n) < torch.tensor(lengths).unsqueeze(1)
    return Text(random(len(lengths), n, 20, seed=1) * mask.unsqueeze(-1), mask, padded_to)


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).norm() < 1e-5 * b.norm())


class TestText:
    def test_merged_padding_equals_explicit_zero_rows(self, model: Transformer) -> None:
        noisy, t, text = random(2, 6, 2, 3, 4), torch.tensor([[0.2], [0.7]]), words(3, 5)
        rows = text.explicit()
        explicit = Text(rows, torch.ones(rows.shape[:2], dtype=torch.bool), padded_to=512)
        assert close(model(noisy, t, text=text), model(noisy, t, text=explicit))

    def test_how_many_zero_rows_matters(self, model: Transformer) -> None:
        noisy, t = random(1, 6, 2, 3, 4), torch.tensor([[0.5]])
        assert not close(model(noisy, t, text=words(3)), model(noisy, t, text=words(3, padded_to=16)))

    def test_room_for_more_rows_does_not(self, model: Transformer) -> None:
        noisy, t, text = random(1, 6, 2, 3, 4), torch.tensor([[0.5]]), words(3)
        shorter = Text(text.rows[:, :3], text.mask[:, :3])
        assert close(model(noisy, t, text=text), model(noisy, t, text=shorter))

    def test_what_stands_past_the_mask_does_not(self, model: Transformer) -> None:
        noisy, t, text = random(1, 6, 2, 3, 4), torch.tensor([[0.5]]), words(3)
        dirty = Text(text.rows + 9 * ~text.mask.unsqueeze(-1), text.mask)
        assert close(model(noisy, t, text=text), model(noisy, t, text=dirty))

    def test_remembering_is_not_remembering(self, model: Transformer) -> None:
        noisy, t, text = random(2, 6, 2, 3, 4), torch.tensor([[0.2], [0.7]]), words(3, 5)
        memory = model.remember(text)
        assert isinstance(memory, TextMemory) and len(memory.keys) == len(memory.values) == 2
        assert memory.keys[0].shape == (2, 2, 6, 24)
        assert torch.equal(model(noisy, t, text=memory), model(noisy, t, text=text))

    def test_words_matter(self, model: Transformer) -> None:
        noisy, t, text = random(1, 6, 2, 3, 4), torch.tensor([[0.5]]), words(3)
        other = Text(text.rows.flip(-1), text.mask)
        assert not close(model(noisy, t, text=text), model(noisy, t, text=other))


class TestTimes:
    def test_equal_times_per_frame_are_one_time(self, model: Transformer) -> None:
        noisy, text = random(2, 6, 3, 3, 4), words(3, 5)
        t = torch.tensor([[0.2], [0.7]])
        assert close(model(noisy, t.expand(-1, 3), text=text), model(noisy, t, text=text))

    def test_one_sample_takes_the_folded_norm_and_gets_the_same(self, model: Transformer) -> None:
        """With one sample and one time, shift and scale become the norm's own weights."""
        noisy, t = random(1, 6, 3, 3, 4), torch.tensor([[0.4]])
        text = words(3)
        twice = Text(text.rows.expand(2, -1, -1), text.mask.expand(2, -1))
        both = model(noisy.expand(2, -1, -1, -1, -1), t.expand(2, -1), text=twice)
        assert close(model(noisy, t, text=text), both[:1])

    def test_a_frame_has_its_own_time(self, model: Transformer) -> None:
        noisy, text = random(1, 6, 3, 3, 4), words(3)
        one = model(noisy, torch.tensor([[0.2, 0.2, 0.9]]), text=text)
        other = model(noisy, torch.tensor([[0.9, 0.2, 0.2]]), text=text)
        assert not close(one, other)

    def test_frames_of_one_patch_share_a_time(self) -> None:
        model = stirred(SMALL.model_copy(update={"patch_size": (2, 1, 1)}))
        noisy, text = random(1, 6, 4, 3, 4), words(3)
        one = model(noisy, torch.tensor([[0.2, 0.2, 0.9, 0.9]]), text=text)
        assert torch.equal(one, model(noisy, torch.tensor([[0.2, 0.5, 0.9, 0.1]]), text=text))

    def test_sinusoid(self) -> None:
        waves = sinusoid(torch.tensor([[0.0, 500.0]]), 8)
        assert waves.shape == (1, 2, 8)
        assert waves[0, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
        exact = (500 * 10000 ** (-torch.arange(4, dtype=torch.float64) / 4)).float()
        torch.testing.assert_close(waves[0, 1], torch.cat([exact.cos(), exact.sin()]), rtol=1e-4, atol=1e-4)


class TestVideo:
    def test_batch_of_n_is_n_of_one(self, model: Transformer) -> None:
        noisy, t, text = random(3, 6, 2, 3, 4), torch.rand(3, 2), words(3, 5, 1)
        together = model(noisy, t, text=text)
        for row in range(3):
            here = slice(row, row + 1)
            alone = model(noisy[here], t[here], text=Text(text.rows[here], text.mask[here]))
            assert close(together[here], alone)

    def test_an_image_is_a_video_of_one_frame(self, model: Transformer) -> None:
        """One frame needs no path of its own, and it makes no difference where in a video it stands."""
        image, t, text = random(1, 6, 1, 3, 4), torch.tensor([[0.5]]), words(3)
        alone = model(image, t, text=text)
        assert alone.shape == image.shape
        later = model(image, t, text=text, first_frame=7)
        assert close(alone, later)  # a lone frame has no distance to another, so its place says nothing

    def test_frames_see_one_another(self, model: Transformer) -> None:
        noisy, t, text = random(1, 6, 2, 3, 4), torch.tensor([[0.5]]), words(3)
        other = torch.cat([noisy[:, :, :1], noisy[:, :, 1:] + 1], dim=2)
        assert not close(model(noisy, t, text=text)[:, :, 0], model(other, t, text=text)[:, :, 0])

    def test_patches_come_back_where_they_were(self) -> None:
        config = SMALL.model_copy(
            update={"patch_size": (1, 2, 2), "heads": 1}
        )  # 24 numbers each, as many as wide
        patches = Patches(config)
        with torch.no_grad():  # the identity, with the channel last as tokens leave the head
            eye = torch.eye(24).view(24, 4, 6).transpose(1, 2).reshape(24, 24)
            patches.weight.copy_(eye.view_as(patches.weight))
        latents = random(2, 6, 3, 4, 6)
        assert torch.equal(patches.back(patches(latents), (3, 2, 3)), latents)

    def test_dtype_of_the_latents_comes_back(self, model: Transformer) -> None:
        noisy, t, text = random(1, 6, 2, 3, 4), torch.tensor([[0.5]]), words(3)
        assert model(noisy.double(), t.double(), text=text).dtype == torch.float64


@pytest.mark.parametrize(
    ("shape", "times", "message"),
    [
        ((1, 6, 2, 3, 4), (1, 1), "2x3x4 do not divide into patches of 1x2x2"),
        ((1, 6, 3, 4, 4), (1, 2), r"times have shape \(1, 2\)"),
        ((1, 6, 9, 4, 4), (1, 1), "rope_max=8"),
    ],
)
def test_what_does_not_fit_is_named(shape: tuple[int, ...], times: tuple[int, int], message: str) -> None:
    model = Transformer(SMALL.model_copy(update={"patch_size": (1, 2, 2), "rope_max": 8}))
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(shape), torch.zeros(times), text=words(3))


@pytest.mark.parametrize("wrong", [{"heads": 0}, {"head_dim": 7}, {"qk_norm": None}, {"depth": 3}])
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TransformerConfig(**wrong)  # type: ignore[arg-type]


class TestModulation:
    @pytest.mark.parametrize("stretches", [1, 3])
    @pytest.mark.parametrize("batch", [1, 2])
    def test_by_hand(self, stretches: int, batch: int) -> None:
        x, shift, scale = (
            random(batch, 6, 8),
            random(batch, stretches, 8, seed=1),
            random(batch, stretches, 8, seed=2),
        )
        normed = nn.functional.layer_norm(x, (8,), eps=1e-6)
        for got, wanted in (
            (modulated_norm(x, shift, scale=scale, eps=1e-6), lambda s, g: normed * (1 + g) + s),
            (gated_sum(x, normed, gate=scale), lambda s, g: x + g * normed),
        ):
            wide = [value.repeat_interleave(6 // stretches, dim=1) for value in (shift, scale)]
            torch.testing.assert_close(got, wanted(*wide), rtol=1e-5, atol=1e-5)

    def test_gated_sum_keeps_the_dtype_of_the_stream(self) -> None:
        x, update, gate = random(1, 4, 8), random(1, 4, 8, seed=1), random(1, 1, 8, seed=2)
        assert gated_sum(x, update.bfloat16(), gate=gate).dtype == torch.float32
        assert gated_sum(x.bfloat16(), update.bfloat16(), gate=gate).dtype == torch.bfloat16


class TestTraining:
    def test_starts_at_zero_flow_and_learns(self) -> None:
        torch.manual_seed(0)
        model = Transformer(SMALL)
        noisy, t, text, target = (
            random(4, 6, 2, 3, 4),
            torch.rand(4, 1),
            words(3, 5, 1, 2),
            random(4, 6, 2, 3, 4, seed=3),
        )
        assert model(noisy, t, text=text).abs().max() == 0
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(30):
            loss = (model(noisy, t, text=text) - target).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.5 * losses[0]

    def test_every_weight_gets_a_gradient(self, model: Transformer) -> None:
        noisy, t, text = random(2, 6, 2, 3, 4), torch.rand(2, 2), words(3, 5)
        model.zero_grad()
        (model(noisy, t, text=text) * random(2, 6, 2, 3, 4, seed=5)).sum().backward()
        for name, parameter in model.named_parameters():
            # A bias on all keys moves all scores of a query alike, unless the norm of the keys is in between.
            assert parameter.grad is not None and parameter.grad.norm() > 1e-6, name
        model.zero_grad()

    def test_autocast_is_close_and_its_stream_is_fp32(self, model: Transformer) -> None:
        noisy, t, text = random(2, 6, 2, 3, 4), torch.rand(2, 1), words(3, 5)
        exact = model(noisy, t, text=text)
        with torch.autocast("cpu", torch.bfloat16):
            flow = model(noisy, t, text=text)
            assert model.patches(noisy).dtype == torch.float32
        assert flow.dtype == torch.float32
        assert 1e-5 < (flow - exact).norm() / exact.norm() < 0.03

    def test_checkpointing_gives_the_same_gradients(self, model: Transformer) -> None:
        noisy, t, text = random(2, 6, 2, 3, 4), torch.rand(2, 1), words(3, 5)
        gradients = []
        for on in (False, True):
            model.checkpointing = on
            loss = model(noisy, t, text=text).pow(2).sum()
            gradients.append(torch.autograd.grad(loss, list(model.parameters())))
        model.checkpointing = False
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


ONE_GRAPH = """
import torch
from mutoscope.models.text import Text
from mutoscope.models.transformer import Transformer, TransformerConfig

model = Transformer(TransformerConfig(heads=2, head_dim=8, text_dim=20, ffn_dim=40, layers=2))
torch.nn.init.normal_(model.head.weight)
noisy, t = torch.randn(2, 16, 2, 3, 4), torch.rand(2, 2)
text = Text(torch.randn(2, 5, 20), torch.arange(5) < torch.tensor([[3], [5]]))
compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
flow = compiled(noisy, t, text=text)
flow.pow(2).sum().backward()
assert torch.allclose(flow, model(noisy, t, text=text), atol=1e-5)
model.compile_blocks()
assert all(block._compiled_call_impl is not None for block in model.blocks)
"""


@pytest.mark.slow
def test_one_graph_without_breaks() -> None:
    """A compiler finds nothing that asks for a value. (In this process the checks of shapes break graphs.)"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", ONE_GRAPH], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_lower_precision_keeps_what_public_code_keeps() -> None:
    model = stirred().lower_precision()
    kept = {name for name, parameter in model.named_parameters() if parameter.dtype == torch.float32}
    assert {"time.first.weight", "modulation", "blocks.1.modulation", "blocks.0.cross_norm.weight"} <= kept
    assert all(
        "modulation" in n or "cross_norm" in n or "time.first" in n or "time.second" in n for n in kept
    )
    noisy, t, text = random(2, 6, 2, 3, 4), torch.rand(2, 2), words(3, 5)
    exact = stirred()(noisy, t, text=text)
    assert 1e-4 < (model(noisy, t, text=text) - exact).norm() / exact.norm() < 0.03
