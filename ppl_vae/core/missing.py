"""Missing values: NaN in the data, where a program or a distribution says that it takes them for unknown."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn


class TakesMissing(Protocol):
    """A net, a likelihood or a distribution to which NaN in the data is a value that nobody knows.

    A module of your own says so by the class attribute `takes_missing = True`: what holds it is then given
    batches with NaN, where others are told which row to clean.
    """

    takes_missing: bool


def takes_missing(part: object) -> bool:
    """Whether a module, one inside it, or a distribution within `to_event`, `mask` and `expand` takes NaN."""
    if isinstance(part, nn.Module):
        return any(_says_so(module) for module in part.modules())
    inner: Any = part
    while not _says_so(inner) and hasattr(inner, "base_dist"):
        inner = inner.base_dist
    return _says_so(inner)


def _says_so(part: object) -> bool:
    try:
        return cast(TakesMissing, part).takes_missing is True
    except AttributeError:
        return False


def is_clean(value: Tensor, missing: bool) -> bool:
    """Whether all values are finite, or NaN where `missing` allows that."""
    return bool((value.isfinite() | value.isnan() if missing else value.isfinite()).all())


def same_values(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors hold the same, NaN at the same places."""
    return torch.equal(one, two) or bool(((one == two) | ((one != one) & (two != two))).all())
