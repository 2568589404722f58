"""Statistics of a whole set of data, (N, *event) with NaN for what is missing, to a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Statistic = Callable[[Tensor], Any]


def mean(x: Tensor) -> Tensor:
    """The mean of all values."""
    return x.nanmean()


def standard_deviation(x: Tensor) -> Tensor:
    """The standard deviation of all values."""
    return (x - x.nanmean()).square().nanmean().sqrt()


def smallest(x: Tensor) -> Tensor:
    """The smallest value."""
    return x[~x.isnan()].min()


def largest(x: Tensor) -> Tensor:
    """The largest value."""
    return x[~x.isnan()].max()


def share_of_zeros(x: Tensor) -> Tensor:
    """The share of values that are zero."""
    return (x[~x.isnan()] == 0).double().mean()


def dispersion(x: Tensor) -> Tensor:
    """The variance over data of each element by its mean, those summed: 1 for Poisson counts."""
    means = x.nanmean(0)
    return (x - means).square().nanmean(0).nansum() / means.abs().nansum().clamp_min(1e-300)


STATISTICS: tuple[Statistic, ...] = (mean, standard_deviation, smallest, largest, share_of_zeros, dispersion)
