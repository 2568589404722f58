"""Whether ranks are uniform: bands that hold a whole empirical distribution function, and their p-value."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

_STEPS = 40  # of a bisection over 290 decades
_LEAST = 1e-290  # tails below it are not told apart
_ROUNDING = 1e-10  # p-values below it would be 1 minus nearly 1


def band(num_values: int, num_ranks: int, level: float) -> tuple[Counts, Counts]:
    r"""Bounds within which all counts C_r = #{ranks <= r} of uniform ranks lie with this probability.

    At each r the bounds cut off the same probability on both sides of the Binomial(n, (r + 1) / R) that C_r
    follows. How much is found by bisection, and the probability that the whole path stays inside is exact:
    no simulation, no asymptotics.

    Args:
        num_values: n, the ranks that there are.
        num_ranks: R, the values 0 ... R - 1 that a rank may have.
        level: the probability, at least.

    Returns:
        low and high, (R - 1,) each; C_{R-1} is n always.

    Säilynoja, Bürkner and Vehtari, Graphical Test for Discrete Uniformity, arXiv:2103.10522; the recursion is
    theirs, with Poisson increments given their sum in the binomials' place.

    >>> low, high = band(1000, 101, 0.95)
    >>> low[49], high[49]
    (np.int64(448), np.int64(543))
    """
    return _bounds(num_values, num_ranks, _critical(num_values, num_ranks, level))


def p_value(ranks: Any, num_ranks: int) -> float:
    r"""The probability that uniform ranks leave the narrowest band that these do not leave by as much.

    .. math:: \gamma = \min_r 2 \min\bigl(\Pr(C_r \le c_r), \Pr(C_r \ge c_r)\bigr)

    is the statistic, so that every r counts alike, and its distribution under uniformity is exact.

    Args:
        ranks: (n,) whole numbers in 0 ... R - 1.
        num_ranks: R.

    >>> p_value(np.arange(1000) % 101, 101) > 0.99
    True
    >>> p_value(np.arange(1000) % 95, 101) < 0.01
    True
    """
    ranks = np.asarray(ranks)
    if num_ranks < 2 or not len(ranks):
        return 1.0
    from scipy.special import bdtr

    counts = np.bincount(ranks, minlength=num_ranks).cumsum()[:-1].astype(float)
    share = np.arange(1, num_ranks) / num_ranks
    below = bdtr(counts, len(ranks), share)
    above = bdtr(len(ranks) - counts, len(ranks), 1 - share)  # of those above r, which are binomial too
    gamma = float(np.minimum(1.0, 2 * np.minimum(below, above)).min())
    if gamma >= 1:
        return 1.0
    found = 1 - _stays_inside(*_bounds(len(ranks), num_ranks, gamma), len(ranks), num_ranks)
    # where the subtraction would leave rounding alone, the sum over all r is an upper limit
    return min(1.0, found) if found > _ROUNDING else min(_ROUNDING, gamma * (num_ranks - 1))


@functools.lru_cache(64)
def _critical(num_values: int, num_ranks: int, level: float) -> float:
    """The largest probability outside of the bounds at one r that leaves `level` for the whole path."""
    low, high = np.log(_LEAST), 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        bounds = _bounds(num_values, num_ranks, float(np.exp(middle)))
        low, high = (
            (middle, high) if _stays_inside(*bounds, num_values, num_ranks) >= level else (low, middle)
        )
    return float(np.exp(low))


def _bounds(num_values: int, num_ranks: int, gamma: float) -> tuple[Counts, Counts]:
    """The counts that cut off less than half of gamma: those of which both tails have more."""
    from scipy.special import bdtr

    half = max(gamma, _LEAST) / 2 * (1 + 1e-9)  # a tail that is as large to rounding is outside
    share = np.arange(1, num_ranks) / num_ranks
    below, low = np.full(num_ranks - 1, -1), np.full(num_ranks - 1, num_values)
    while (low - below > 1).any():
        middle = (below + low) // 2
        enough = bdtr(middle.astype(float), num_values, share) >= half
        below, low = np.where(enough, below, middle), np.where(enough, middle, low)
    return low, num_values - low[::-1]


def _stays_inside(low: Counts, high: Counts, num_values: int, num_ranks: int) -> float:
    """The probability that all counts of uniform ranks lie within bounds, both included."""
    from scipy.special import gammaln

    mean = num_values / num_ranks
    steps = np.arange(num_values + 1)
    # independent Poisson increments, given that they sum to n, are the multinomial's
    increment = np.exp(steps * np.log(mean) - mean - gammaln(steps + 1))
    increment = increment[: int(np.flatnonzero(increment > 1e-30)[-1]) + 1]
    path, first = np.ones(1), 0
    for bottom, top in zip(low, high):
        if bottom > top:
            return 0.0
        moved = np.convolve(path, increment)
        inside = np.zeros(top - bottom + 1)
        start, stop = max(first, bottom), min(first + len(moved), top + 1)
        if start >= stop:
            return 0.0
        inside[start - bottom : stop - bottom] = moved[start - first : stop - first]
        path, first = inside, int(bottom)
    left = num_values - first - np.arange(len(path))
    fits = (left >= 0) & (left < len(increment))
    last = np.where(fits, increment[np.where(fits, left, 0)], 0.0)
    total = num_values * np.log(num_values) - num_values - gammaln(num_values + 1)
    return float((path * last).sum() / np.exp(total))
