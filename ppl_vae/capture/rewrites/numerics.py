"""Formulas that a CPU compiler can run as vectors, in place of kernels that it runs one number at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions

aten = torch.ops.aten

# these are made of log1p, log-sigmoid and exp, which the functions below then replace
_COMPOSITE = ("softplus", "binary_cross_entropy_with_logits", "logaddexp")


def log1p(x: Tensor) -> Tensor:
    """log(1 + x), exact to rounding by dividing the rounding error of 1 + x out again (Kahan).

    Inductor's CPU code has no fast log1p of its own. Nothing reorders its floating-point sums.
    """
    u = 1 + x
    moved = u - 1
    exact = (moved == 0) | torch.isinf(u)
    return torch.where(
        exact, torch.where(moved == 0, x, u), torch.log(u) * (x / torch.where(exact, 1, moved))
    )


def log_sigmoid_forward(x: Tensor) -> tuple[Tensor, Tensor]:
    """log sigmoid(x), and the exp(-|x|) that its gradient needs.

    The rounding of 1 + exp(-|x|) costs 6e-8 nats at most in float32.
    """
    small = torch.exp(-x.abs())
    return x.clamp_max(0) - torch.log(1 + small), small


def log_sigmoid_backward(gradient: Tensor, x: Tensor, buffer: Tensor) -> Tensor:
    """gradient * sigmoid(-x); at 0 the factor is 1/2."""
    share = 1 / (1 + buffer)
    return gradient * torch.where(x < 0, share, buffer * share)


def operators() -> dict[Any, Callable[..., Any]]:
    """What `make_fx` puts in place of some operators."""
    table = dict(get_decompositions([getattr(aten, name) for name in _COMPOSITE]))
    table[aten.log1p.default] = log1p
    table[aten.log_sigmoid_forward.default] = log_sigmoid_forward
    table[aten.log_sigmoid_backward.default] = log_sigmoid_backward
    return table
