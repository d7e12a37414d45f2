"""Two ways to one GELU."""

import pytest
import torch
import torch.nn.functional as F

from mutoscope.models.activation import gelu, sigmoid_form


@pytest.mark.oracle
def test_both_forms_are_the_public_one() -> None:
    x = torch.linspace(-12, 12, 4001)
    exact = F.gelu(x.double(), approximate="tanh").float()
    torch.testing.assert_close(gelu(x), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sigmoid_form(x), exact, rtol=1e-5, atol=1e-6)


def test_bf16_is_rounded_once() -> None:
    x = torch.linspace(-4, 4, 501).bfloat16()
    exact = F.gelu(x.double(), approximate="tanh").bfloat16()
    assert sigmoid_form(x).dtype == torch.bfloat16
    torch.testing.assert_close(sigmoid_form(x), exact, rtol=2**-7, atol=1e-6)


def test_gradients_agree() -> None:
    x = torch.linspace(-6, 6, 301, dtype=torch.float32, requires_grad=True)
    (one,) = torch.autograd.grad(F.gelu(x, approximate="tanh").sum(), x)
    (other,) = torch.autograd.grad(sigmoid_form(x).sum(), x)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_far_out_values_stay_finite() -> None:
    x = torch.tensor([-1e4, -100.0, 100.0, 1e4], requires_grad=True)
    y = sigmoid_form(x)
    y.sum().backward()
    assert y.tolist() == [0, 0, 100, 1e4]
    assert x.grad is not None and x.grad.isfinite().all()


def test_the_compiler_gets_the_sigmoid(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.linspace(-3, 3, 50)
    plain = gelu(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(gelu(x), sigmoid_form(x)) and not torch.equal(plain, sigmoid_form(x))
