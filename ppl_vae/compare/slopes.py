"""Straight lines through points on log-log axes, with the standard error of their slope."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Slope:
    """A power law y = exp(intercept) x^slope, fitted to `num_points` points from x = `smallest` on."""

    slope: float
    standard_error: float
    intercept: float
    num_points: int
    smallest: float

    def at(self, x: float) -> float:
        """The line at x."""
        return math.exp(self.intercept) * x**self.slope


def fit_slope(x: Sequence[float], y: Sequence[float], error: Sequence[float]) -> Slope:
    r"""The weighted least squares line of log y on log x, with weights from the standard errors of y.

    .. math:: \log y_i = a + b \log x_i + \epsilon_i, \qquad \epsilon_i \sim \mathcal{N}\bigl(0, (e_i / y_i)^2\bigr)

    Points that are not positive, or within two standard errors of zero, are left out. The slope's
    standard error grows by the root of chi-squared per degree of freedom where that is above one: so it
    says, too, how far the points are from any straight line. With two points or fewer it is nan.

    >>> fitted = fit_slope([1, 10, 100], [2.0, 0.2, 0.02], [0.1, 0.01, 0.001])
    >>> round(fitted.slope, 6), round(fitted.at(1), 6)
    (-1.0, 2.0)
    """
    points = [
        (math.log(a), math.log(b), e / b)
        for a, b, e in zip(x, y, error, strict=True)
        if math.isfinite(b) and b > 0 and math.isfinite(e) and b > 2 * e
    ]
    if len({a for a, _, _ in points}) < 2:
        return Slope(math.nan, math.nan, math.nan, len(points), math.nan)
    used = sorted(a for a in x if math.log(a) in {point[0] for point in points})
    log_x, log_y, relative = np.array(points).T
    # errors that vanish (an exact result) weigh as the smallest that does not, or all alike
    positive = relative[relative > 0]
    relative = np.maximum(relative, positive.min() if len(positive) else 1.0)
    weight = relative**-2
    centre = np.average(log_x, weights=weight)
    spread = (weight * (log_x - centre) ** 2).sum()
    slope = (weight * (log_x - centre) * log_y).sum() / spread
    intercept = np.average(log_y, weights=weight) - slope * centre
    freedom = len(points) - 2
    chi_squared = (weight * (log_y - intercept - slope * log_x) ** 2).sum()
    inflation = math.sqrt(max(1.0, chi_squared / freedom)) if freedom else math.nan
    slope_error = inflation / math.sqrt(spread)
    return Slope(float(slope), slope_error, float(intercept), len(points), float(used[0]))
