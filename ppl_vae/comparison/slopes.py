"""Power laws through points, with the standard error of the power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Slope:
    """A power law y = exp(intercept + correction / x) x^slope, fitted to `num_points` points."""

    slope: float
    standard_error: float
    intercept: float
    num_points: int
    correction: float = 0.0

    def at(self, x: float) -> float:
        """The curve at x."""
        return math.exp(self.intercept + self.correction / x) * x**self.slope


def fit_slope(
    x: Sequence[float], y: Sequence[float], error: Sequence[float], correction: bool = False
) -> Slope:
    r"""The power of x that y goes with, by weighted least squares; the weights come from the errors of y.

    .. math:: \log y_i = a + b \log x_i + c / x_i + \epsilon_i, \qquad
        \epsilon_i \sim \mathcal{N}\bigl(0, (e_i / y_i)^2\bigr)

    c is zero without `correction`. Points that are not positive, or within two standard errors of zero,
    are left out. The slope's standard error grows by the root of chi-squared per degree of freedom where
    that is above one: so it says, too, how far the points are from any such curve. It is nan where
    there are no more points than coefficients.

    Args:
        x, y, error: the points, and the standard errors of y.
        correction: fit c too. Theory's rates are those of large x, with a relative error of order 1 / x;
            with that first term the small x take part without bending the slope.

    >>> fitted = fit_slope([1, 10, 100], [2.0, 0.2, 0.02], [0.1, 0.01, 0.001])
    >>> round(fitted.slope, 6), round(fitted.at(1), 6)
    (-1.0, 2.0)
    """
    points = [
        (a, math.log(b), e / b)
        for a, b, e in zip(x, y, error, strict=True)
        if math.isfinite(b) and b > 0 and math.isfinite(e) and b > 2 * e
    ]
    coefficients = 3 if correction else 2
    if len({a for a, _, _ in points}) < coefficients:
        return Slope(math.nan, math.nan, math.nan, len(points))
    at, log_y, relative = np.array(points).T
    # errors that vanish (an exact result) weigh as the least that does not, or all alike
    positive = relative[relative > 0]
    relative = np.maximum(relative, positive.min() if len(positive) else 1.0)
    columns = np.stack([np.ones_like(at), np.log(at), 1 / at][:coefficients], 1) / relative[:, None]
    fitted, *_ = np.linalg.lstsq(columns, log_y / relative)
    freedom = len(points) - coefficients
    chi_squared = float(np.square(log_y / relative - columns @ fitted).sum())
    inflation = math.sqrt(max(1.0, chi_squared / freedom)) if freedom else math.nan
    slope_error = inflation * math.sqrt(np.linalg.inv(columns.T @ columns)[1, 1])
    intercept, slope, *rest = map(float, fitted)
    return Slope(slope, slope_error, intercept, len(points), *rest)
