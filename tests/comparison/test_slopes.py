"""Power laws through points: the power, its error, and the correction for small x."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ppl_vae.comparison.slopes import fit_slope

LADDER = [1, 2, 5, 10, 20, 50, 100, 200]


def test_a_correction_takes_the_bend_of_small_x_out_of_the_power():
    y = [3 * x**-0.5 * math.exp(0.8 / x) for x in LADDER]
    error = [0.01 * value for value in y]
    straight, corrected = fit_slope(LADDER, y, error), fit_slope(LADDER, y, error, correction=True)
    assert corrected.slope == pytest.approx(-0.5)
    assert corrected.correction == pytest.approx(0.8)
    assert [corrected.at(x) for x in LADDER] == pytest.approx(y)
    assert straight.slope < -0.55
    assert straight.standard_error > 3 * corrected.standard_error  # it grows, since no line fits


@pytest.mark.parametrize("correction", [False, True])
def test_the_standard_error_is_the_spread_of_the_slopes(correction):
    generator = np.random.default_rng(0)
    exact = np.array(LADDER, dtype=float) ** 0.5
    found = [
        fit_slope(
            LADDER, exact * (1 + 0.02 * generator.standard_normal(len(LADDER))), 0.02 * exact, correction
        )
        for _ in range(400)
    ]
    spread = np.std([each.slope for each in found])
    assert np.mean([each.slope for each in found]) == pytest.approx(0.5, abs=4.5 * spread / 20)
    assert 0.9 < np.mean([each.standard_error for each in found]) / spread < 1.3


def test_points_that_cannot_be_told_from_zero_are_left_out():
    fitted = fit_slope([1, 2, 4, 8], [1.0, 0.5, 0.25, 0.01], [0.01, 0.01, 0.01, 0.01])
    assert (fitted.num_points, fitted.slope) == (3, pytest.approx(-1.0))
    assert math.isnan(fit_slope([1, 2], [1.0, -1.0], [0.1, 0.1]).slope)
    assert math.isnan(fit_slope([1, 2], [1.0, 0.5], [0.1, 0.1], correction=True).slope)
