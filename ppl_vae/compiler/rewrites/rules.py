"""Rules of ATen's that Inductor leaves out: bounds beyond a type, a result's type, NaN, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions

aten = torch.ops.aten

_BILINEAR, _ZEROS = 0, 0
_UNTRUE = "Expected Tensor with single nonzero value, but got zero"
_NO_SHARES = "all elements of input should be between 0 and 1"


def clamp(x: Tensor, low: Any = None, high: Any = None) -> Any:
    """x between whole numbers, of which those beyond x's type bound nothing; Inductor wraps them."""
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        return NotImplemented
    if not all(each is None or isinstance(each, int) for each in (low, high)):
        return NotImplemented
    ends = torch.iinfo(x.dtype)
    below, above = low is not None and low <= ends.min, high is not None and high >= ends.max
    if not (below or above):
        return NotImplemented
    low, high = None if below else low, None if above else high
    return x.clone() if low is None and high is None else torch.clamp(x, low, high)


def any_of(x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Whether any is not 0, of uint8 as uint8."""
    if x.dtype != torch.uint8:
        return NotImplemented
    return torch.any(x != 0, *args, **kwargs).to(x.dtype)


def check(true: Tensor) -> None:
    """Raise an error that Inductor does not drop."""
    aten._assert_async.msg(true, _UNTRUE)


def operators() -> dict[Any, Callable[..., Any]]:
    """What `make_fx` puts in place of some operators."""
    formulas: Any = get_decompositions([aten.grid_sampler_2d, aten.binary_cross_entropy])
    table: dict[Any, Callable[..., Any]] = {
        aten.clamp.default: clamp,
        aten.clamp_min.default: clamp,
        aten.clamp_max.default: lambda x, high: clamp(x, None, high),
        aten.clamp_.default: lambda x, *bounds, **named: _into(x, clamp(x, *bounds, **named)),
        aten.clamp_min_.default: lambda x, low: _into(x, clamp(x, low)),
        aten.clamp_max_.default: lambda x, high: _into(x, clamp(x, None, high)),
        aten._assert_async.default: check,
    }
    table |= {getattr(aten.any, each): any_of for each in ("default", "dim", "dims")}

    def grid_sampler_2d(x: Tensor, grid: Tensor, mode: int = 0, padding: int = 0, align: bool = False) -> Any:
        found = formulas[aten.grid_sampler_2d.default](x, grid, mode, padding, align)
        if (mode, padding) != (_BILINEAR, _ZEROS):
            return found
        return torch.where(grid.isnan().any(-1).unsqueeze(1), torch.nan, found)

    def binary_cross_entropy(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        aten._assert_async.msg(((x >= 0) & (x <= 1)).all(), _NO_SHARES)
        return formulas[aten.binary_cross_entropy.default](x, *args, **kwargs)

    table[aten.grid_sampler_2d.default] = grid_sampler_2d
    table[aten.binary_cross_entropy.default] = binary_cross_entropy
    return table


def _into(x: Tensor, found: Any) -> Any:
    return found if found is NotImplemented else x.copy_(found)
