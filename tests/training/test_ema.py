"""The average against its closed form, and its loan to the modules."""

import pytest
import torch
from torch import nn

from mutoscope.training.ema import Ema
from mutoscope.video import Refusal


def layer(value: float = 0.0) -> nn.Linear:
    linear = nn.Linear(3, 2)
    for parameter in linear.parameters():
        nn.init.constant_(parameter, value)
    return linear


def set_to(linear: nn.Linear, value: float) -> None:
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.fill_(value)


def test_closed_form_with_warm_up() -> None:
    linear, values = layer(4.0), [1.0, -2.0, 5.0, 3.0, 0.5]
    ema = Ema(linear.named_parameters(), decay=0.25)
    expected = 4.0
    for n, value in enumerate(values):
        set_to(linear, value)
        ema.update()
        decay = min(0.25, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    assert ema.updates == 5
    assert torch.allclose(ema.average["weight"], torch.full((2, 3), expected))


def test_constant_decay_weighs_the_past_geometrically() -> None:
    linear = layer(0.0)
    ema = Ema(linear.named_parameters(), decay=0.5)
    ema.updates = 100  # far beyond the warm-up
    set_to(linear, 1.0)
    for _ in range(4):
        ema.update()
    assert torch.allclose(ema.average["bias"], torch.full((2,), 1 - 0.5**4))


def test_the_first_update_all_but_forgets_the_random_start() -> None:
    linear = layer(100.0)
    ema = Ema(linear.named_parameters(), decay=0.9999)
    set_to(linear, 0.0)
    ema.update()
    assert torch.allclose(ema.average["bias"], torch.full((2,), 10.0))


def test_modules_borrow_the_average_and_get_their_own_back() -> None:
    linear = nn.Linear(3, 2)
    ema = Ema(linear.named_parameters(), decay=0.9)
    before, address = linear.weight.detach().clone(), linear.weight.data_ptr()
    set_to(linear, 7.0)
    with ema.weights():
        assert torch.equal(linear.weight, before) and linear.weight.data_ptr() == address
    assert torch.equal(linear.weight, torch.full((2, 3), 7.0))


def test_own_weights_return_after_an_error() -> None:
    linear = layer(1.0)
    ema = Ema(linear.named_parameters(), decay=0.9)
    set_to(linear, 2.0)
    with pytest.raises(RuntimeError), ema.weights():
        raise RuntimeError
    assert torch.equal(linear.bias, torch.full((2,), 2.0))
    assert torch.equal(ema.average["bias"], torch.ones(2))


def test_average_is_float32_and_fits_into_bfloat16_weights() -> None:
    linear = layer(1.0).to(torch.bfloat16)
    ema = Ema(linear.named_parameters(), decay=0.9)
    ema.update()
    assert ema.average["weight"].dtype == torch.float32
    with ema.weights():
        assert linear.weight.dtype == torch.bfloat16


def test_copy_is_on_its_own_memory() -> None:
    linear = layer(1.0)
    ema = Ema(linear.named_parameters(), decay=0.5)
    copy = ema.copy()
    set_to(linear, 9.0)
    ema.update()
    assert torch.equal(copy["bias"], torch.ones(2))


def test_state_goes_round() -> None:
    linear = layer(1.0)
    ema = Ema(linear.named_parameters(), decay=0.9)
    set_to(linear, 3.0)
    ema.update()
    other = Ema(layer(0.0).named_parameters(), decay=0.9)
    other.load(ema.tensors(), updates=ema.updates)
    assert other.updates == 1 and torch.equal(other.average["weight"], ema.average["weight"])


def test_refusals_say_what_is_wrong() -> None:
    with pytest.raises(Refusal, match=r"1\.5"):
        Ema(layer().named_parameters(), decay=1.5)
    with pytest.raises(Refusal, match="'bias' \\(and 1 more\\)"):
        Ema(layer().named_parameters(), decay=0.5).load({}, updates=0)
