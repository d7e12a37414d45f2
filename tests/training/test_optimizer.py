"""Muon's geometry, which weight goes where, and the schedule."""

import math

import pytest
import torch
from torch import Tensor, nn

from mutoscope.models.precision import fast_dtype
from mutoscope.training.optimizer import (
    AdamW,
    Muon,
    Optimizer,
    OptimizerSettings,
    is_hidden_matrix,
    learning_rate_factor,
    orthogonalise,
    stacked,
)
from mutoscope.video import Refusal


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weight(*shape: int, seed: int = 0) -> nn.Parameter:
    parameter = nn.Parameter(random(*shape, seed=seed))
    parameter.grad = random(*shape, seed=seed + 100)
    return parameter


@pytest.mark.parametrize("shape", [(32, 32), (16, 80), (80, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_end_near_one(shape: tuple[int, int], dtype: torch.dtype) -> None:
    singular = torch.linalg.svdvals(orthogonalise(random(3, *shape), dtype=dtype).float())
    assert singular.min() > 0.3 and singular.max() < 1.3
    assert 0.7 < singular.mean() < 1.1


def test_the_directions_are_those_of_the_matrix() -> None:
    matrix = random(24, 40)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    ours = u.mT @ orthogonalise(matrix[None])[0] @ vh.mT
    assert (ours - torch.diag(ours.diagonal())).abs().max() < 1e-4


def test_scale_of_the_gradient_does_not_matter() -> None:
    matrix = random(1, 16, 16)
    for small in (1e-12, 1e-28):  # what is left of momentum after many steps without a gradient
        torch.testing.assert_close(
            orthogonalise(matrix * small), orthogonalise(matrix), atol=1e-5, rtol=1e-4
        )
    assert orthogonalise(torch.zeros(1, 16, 16)).abs().max() == 0


def test_batched_equals_one_by_one() -> None:
    matrices = random(5, 20, 12)
    single = torch.cat([orthogonalise(m[None]) for m in matrices])
    torch.testing.assert_close(orthogonalise(matrices), single, atol=1e-6, rtol=1e-5)


def test_muon_moves_each_weight_as_if_alone() -> None:
    settings = OptimizerSettings()
    shapes = {"a": (16, 16), "b": (16, 16), "kernel": (8, 4, 3, 3, 3), "tall": (64, 16)}
    together = {n: weight(*s, seed=i) for i, (n, s) in enumerate(shapes.items())}
    alone = {n: weight(*s, seed=i) for i, (n, s) in enumerate(shapes.items())}
    Muon(together, settings=settings).step(0.1)
    for name, parameter in alone.items():
        Muon({name: parameter}, settings=settings).step(0.1)
        torch.testing.assert_close(together[name], parameter, atol=2e-3, rtol=0)


def test_the_step_is_the_scaled_orthogonal_matrix_of_the_nesterov_momentum() -> None:
    parameter = weight(48, 12)
    before, gradient = parameter.detach().clone(), parameter.grad
    muon = Muon({"w": parameter}, settings=OptimizerSettings(momentum=0.9))
    muon.step(0.5)
    expected = (
        before
        - 0.5
        * math.sqrt(48 / 12)
        * orthogonalise((0.9 * 0.1 + 0.1) * gradient[None], dtype=fast_dtype("cpu"))[0].float()
    )
    torch.testing.assert_close(parameter.detach(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(muon.momenta["w"], 0.1 * gradient)


def test_stacked_projections_are_made_orthogonal_apart() -> None:
    fused = weight(48, 16)
    parts = [nn.Parameter(p.clone()) for p in fused.detach().chunk(3)]
    for part, gradient in zip(parts, fused.grad.chunk(3), strict=True):
        part.grad = gradient.clone()
    Muon({"block.qkv.weight": fused}, settings=OptimizerSettings()).step(0.1)
    Muon({str(i): p for i, p in enumerate(parts)}, settings=OptimizerSettings()).step(0.1)
    torch.testing.assert_close(fused.detach(), torch.cat([p.detach() for p in parts]), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "shape", "parts"),
    [
        ("a.qkv.weight", (6, 2), 3),
        ("a.to_kv.weight", (4, 2), 2),
        ("a.query.weight", (6, 2), 1),
        ("qkv", (6, 2), 3),
        ("a.qkv.weight", (7, 2), 1),
    ],
)
def test_what_counts_as_stacked(name: str, shape: tuple[int, int], parts: int) -> None:
    assert stacked(name, torch.zeros(shape)) == parts


def test_a_weight_without_gradient_stays() -> None:
    parameters = {"a": weight(8, 8), "b": weight(8, 8, seed=1)}
    parameters["b"].grad = None
    before = parameters["b"].detach().clone()
    Muon(parameters, settings=OptimizerSettings(weight_decay=0.1)).step(0.1)
    assert torch.equal(parameters["b"], before)


def test_decay_is_decoupled_and_spares_vectors() -> None:
    matrix, vector = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4))
    matrix.grad, vector.grad = torch.zeros(4, 4), torch.zeros(4)
    settings = OptimizerSettings(weight_decay=0.5)
    Muon({"m": matrix}, settings=settings).step(0.1)
    assert torch.allclose(matrix, torch.full((4, 4), 0.95))
    table = nn.Parameter(torch.ones(4, 4))
    table.grad = torch.zeros(4, 4)
    AdamW({"table": table, "v": vector}, settings=settings).step(0.1)
    assert torch.allclose(table, torch.full((4, 4), 0.95)) and torch.equal(vector, torch.ones(4))


@pytest.mark.parametrize(
    ("name", "shape", "hidden"),
    [
        ("blocks.0.self_attention.query.weight", (8, 8), True),
        ("decoder.up.0.conv1.weight", (8, 4, 3, 3, 3), True),
        ("blocks.0.ffn_in.bias", (8,), False),
        ("patches.weight", (8, 4, 1, 2, 2), False),
        ("head.weight", (4, 8), False),
        ("blocks.0.modulation", (1, 6, 8), False),
        ("time.first.weight", (8, 8), False),
        ("encoder.first.weight", (8, 3, 3, 3, 3), False),
        ("decoder.last.weight", (3, 8, 3, 3, 3), False),
        ("before_decoder.weight", (8, 8, 1, 1, 1), False),
        ("token_embedding.weight", (20, 8), False),
        ("blocks.0.depthwise.weight", (8, 1, 3, 3), False),
    ],
)
def test_names_and_shapes_decide(name: str, shape: tuple[int, ...], hidden: bool) -> None:
    assert is_hidden_matrix(name, torch.zeros(shape)) is hidden


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"tokens": nn.Embedding(10, 8), "body": nn.Linear(8, 8), "head": nn.Linear(8, 4)})


def train_some(net: nn.ModuleDict, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        ids = torch.randint(10, (16,), generator=torch.Generator().manual_seed(step))
        net["head"](net["body"](net["tokens"](ids)).tanh()).square().mean().backward()
        optimizer.step(1.0)
        optimizer.zero_grad()


def test_every_weight_has_one_home() -> None:
    optimizer = Optimizer(
        network().named_parameters(), settings=OptimizerSettings(), tables=["tokens.weight"]
    )
    assert set(optimizer.muon.weights) == {"body.weight"}
    assert set(optimizer.adamw.weights) == {"tokens.weight", "body.bias", "head.weight", "head.bias"}
    assert "Muon: 1 weights" in repr(optimizer)
    plain = Optimizer(network().named_parameters(), settings=OptimizerSettings(muon_lr=0))
    assert not plain.muon.weights and len(plain.adamw.weights) == 5
    named = Optimizer(
        network().named_parameters(), settings=OptimizerSettings(adamw_words=("body", "tokens"))
    )
    assert not named.muon.weights


def test_muon_alone_needs_no_adamw() -> None:
    parameter = weight(8, 8)
    Optimizer({"a.weight": parameter}.items(), settings=OptimizerSettings()).step(1.0)
    assert not torch.equal(parameter, random(8, 8))


def test_state_goes_round_as_flat_tensors() -> None:
    whole, first = network(), network()
    one = Optimizer(whole.named_parameters(), settings=OptimizerSettings())
    train_some(whole, one, range(6))
    before = Optimizer(first.named_parameters(), settings=OptimizerSettings())
    train_some(first, before, range(3))
    state = {name: tensor.clone() for name, tensor in before.tensors().items()}
    second = network()
    second.load_state_dict(first.state_dict())
    after = Optimizer(second.named_parameters(), settings=OptimizerSettings())
    after.load(state)
    kept = {name: tensor.clone() for name, tensor in state.items()}
    train_some(second, after, range(3, 6))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert all(torch.equal(kept[n], state[n]) for n in kept), "the checkpoint's own tensors were written to"


def test_a_foreign_state_is_refused() -> None:
    optimizer = Optimizer(network().named_parameters(), settings=OptimizerSettings())
    with pytest.raises(Refusal, match=r"muon\.tokens\.weight"):
        optimizer.load({})


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(Refusal, match="nothing to train"):
        Optimizer([("w", torch.zeros(2, 2))], settings=OptimizerSettings())


def test_muon_learns_a_linear_map() -> None:
    target, inputs = random(12, 12), random(64, 12, seed=1)
    parameter = nn.Parameter(torch.zeros(12, 12))
    optimizer = Optimizer([("w", parameter)], settings=OptimizerSettings(muon_lr=0.1))
    for step in range(120):
        (inputs @ (parameter - target).mT).square().mean().backward()
        optimizer.step(learning_rate_factor(step, steps=120, decay_share=0.5))
        optimizer.zero_grad()
    assert (parameter - target).square().mean() < 1e-2 * target.square().mean()


def test_schedule_rises_stays_and_falls() -> None:
    def factor(step: int) -> float:
        return learning_rate_factor(step, steps=100, warmup_steps=10, decay_share=0.2)

    assert [factor(s) for s in (0, 4, 9)] == [0.1, 0.5, 1.0]
    assert all(factor(s) == 1.0 for s in range(10, 81))
    assert factor(90) == pytest.approx(0.5) and factor(99) == pytest.approx(0.05)
    assert all(factor(s) > factor(s + 1) for s in range(80, 99))


def test_schedule_of_an_unknown_length_does_not_fall() -> None:
    assert learning_rate_factor(10**6, steps=None, warmup_steps=10, decay_share=0.5) == 1.0
    assert learning_rate_factor(99, steps=100) == 1.0


def test_square_root_decay_falls_faster_at_first() -> None:
    values = [learning_rate_factor(s, steps=100, decay_share=0.5, decay="sqrt") for s in (50, 62, 75)]
    assert values == pytest.approx([1.0, 1 - math.sqrt(0.24), 1 - math.sqrt(0.5)])


def test_settings_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValueError, match="lerning_rate"):
        OptimizerSettings(lerning_rate=1)  # pyright: ignore[reportCallIssue]
