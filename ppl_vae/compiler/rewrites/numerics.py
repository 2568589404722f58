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
_HALVES = (torch.float16, torch.bfloat16)


def log1p(x: Tensor) -> Any:
    """log(1 + x), exact to rounding by dividing the rounding error of 1 + x out again (Kahan).

    Inductor's CPU code has no fast log1p of its own. Nothing reorders its floating-point sums.
    """
    if not x.is_floating_point():
        return NotImplemented
    if x.dtype in _HALVES:
        return log1p(x.float()).to(x.dtype)
    u = 1 + x
    moved = u - 1
    exact = (moved == 0) | (u == torch.inf)
    return torch.where(
        exact, torch.where(moved == 0, x, u), torch.log(u) * (x / torch.where(exact, 1, moved))
    )


def atanh(x: Tensor) -> Any:
    """artanh(x) by log1p, right near 0 too."""
    if not x.is_floating_point():
        return NotImplemented
    if x.dtype in _HALVES:
        return atanh(x.float()).to(x.dtype)
    return (log1p(x) - log1p(-x)) / 2


def log_sigmoid_forward(x: Tensor) -> tuple[Tensor, Tensor]:
    """log sigmoid(x), and the exp(-|x|) that its gradient needs.

    In float32 with a polynomial, in half of a logarithm's time: log(1 + s) = 2 artanh(s / (2 + s)).
    """
    if x.dtype in _HALVES:
        value, buffer = log_sigmoid_forward(x.float())
        return value.to(x.dtype), buffer.to(x.dtype)
    small = torch.exp(-x.abs())
    if x.dtype != torch.float32:
        return x.clamp_max(0) - log1p(small), small
    share = small / (2 + small)
    return x.clamp_max(0) - share * _polynomial(share * share, _ARTANH), small


def log_sigmoid_backward(gradient: Tensor, x: Tensor, buffer: Tensor) -> Tensor:
    """gradient * sigmoid(-x); at 0 the factor is 1/2."""
    if x.dtype in _HALVES:
        return log_sigmoid_backward(gradient.float(), x.float(), buffer.float()).to(x.dtype)
    share = 1 / (1 + buffer)
    return gradient * torch.where(x < 0, share, buffer * share)


# of 2 artanh(x) / x in x^2 up to 1/9, highest power first: the least largest relative error, 4e-9
_ARTANH = (
    0.2817833434337737,
    0.27960602878474061,
    0.40024910273521425,
    0.66666314682175454,
    2.0000000079210389,
)
# of x P(x^2) / Q(x^2), highest power first: the least largest relative error, 2.1e-8, up to where tanh is 1
_TANH_END = 9.02
_TANH = (
    (1.3318973197895632e-08, 2.0583407684994195e-05, 3.494030044000328e-03, 0.13379714144351434, 1.0),
    (7.761978259671157e-07, 3.2830854730000575e-04, 2.587105602708886e-02, 0.4671302938723194, 1.0),
)


def tanh(x: Tensor) -> Any:
    """tanh(x) in float32, right to 4e-7 of itself, in a quarter of the time that the last bit takes."""
    if x.dtype != torch.float32:
        return NotImplemented
    y = x.clamp(-_TANH_END, _TANH_END)
    above, below = (_polynomial(y * y, coefficients) for coefficients in _TANH)
    return (y * above / below).clamp(-1, 1)


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    value = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


def operators() -> dict[Any, Callable[..., Any]]:
    """What `make_fx` puts in place of some operators."""
    table = dict(get_decompositions([getattr(aten, name) for name in _COMPOSITE]))
    real = table[aten.logaddexp.default]  # torch's kernel has other rules for complex infinities
    table[aten.logaddexp.default] = lambda a, b: (
        NotImplemented if a.is_complex() or b.is_complex() else real(a, b)
    )
    table[aten.log1p.default] = log1p
    table[aten.atanh.default] = atanh
    table[aten.tanh.default] = tanh
    table[aten.log_sigmoid_forward.default] = log_sigmoid_forward
    table[aten.log_sigmoid_backward.default] = log_sigmoid_backward
    return table
