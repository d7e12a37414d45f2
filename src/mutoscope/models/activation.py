"""GELU in its tanh form, fast both ways of running.

    gelu(x) = x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))) = x · sigmoid(2√(2/π) · (x + 0.044715 x³))

Hendrycks & Gimpel 2016. The two are one function, but a compiler turns the first into a vector tanh that
takes over twice the time of the vector exp in the second (forward and backward of 2.7 million bf16 numbers,
one Zen 4 core: 12.5 against 5.6 ms). Without a compiler the first is one kernel and the second six.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """tanh-GELU of every element, in the dtype of x."""
    return sigmoid_form(x) if torch.compiler.is_compiling() else F.gelu(x, approximate="tanh")


def sigmoid_form(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same values through a sigmoid, in fp32."""
    wide = x.float()
    twice = 2 * math.sqrt(2 / math.pi)
    return (wide * torch.sigmoid(wide * (twice + twice * 0.044715 * wide * wide))).to(x.dtype)
