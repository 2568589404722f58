"""The inverse of a line with a bend in it, by bisection: what planar and Sylvester flows are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def unbend(value: Tensor, weight: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    r"""The x that a bent line sends to a value; differentiable, by the implicit function theorem.

    .. math:: x + w \tanh(s x + o) = v, \qquad w s > -1

    The left side is increasing, and x within |w| of v, so bisection always ends there. Gradients of
    first order are exact, those of higher order are not.

    Args:
        value: v, any shape; `weight`, `slope` and `offset` are w, s and o and broadcast with it.
    """
    steps = math.ceil(-math.log2(torch.finfo(value.dtype).eps)) + 3
    with torch.no_grad():
        low, high = value - weight.abs(), value + weight.abs()
        for _ in range(steps):
            middle = (low + high) / 2
            above = middle + weight * torch.tanh(slope * middle + offset) > value
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        x = (low + high) / 2
    # one step of Newton's, which changes the value hardly and gives it its gradient
    bend = torch.tanh(slope * x + offset)
    rise = 1 + weight * slope * (1 - bend.square())
    return x - (x + weight * bend - value) / rise.detach()
