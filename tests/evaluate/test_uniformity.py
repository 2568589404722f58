"""Bands and p-values for uniform ranks, against every sample there is and against simulations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ppl_vae.evaluate.uniformity import band, p_value
from tests.conftest import SIGMAS


@pytest.mark.parametrize(("size", "num_ranks"), [(5, 3), (4, 4), (6, 2)])
def test_p_values_are_exact(size, num_ranks):
    """Of all samples that there are, exactly the share p has a p-value of p or less."""
    every = [p_value(ranks, num_ranks) for ranks in itertools.product(range(num_ranks), repeat=size)]
    for value in sorted(set(np.round(every, 9))):
        assert np.mean(np.array(every) <= value + 1e-8) == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize(("size", "num_ranks", "level"), [(200, 21, 0.9), (50, 101, 0.5)])
def test_a_band_holds_all_of_a_curve_as_often_as_it_says(size, num_ranks, level):
    low, high = band(size, num_ranks, level)
    random, inside, repeats = np.random.default_rng(0), 0, 3000
    for _ in range(repeats):
        counts = np.bincount(random.integers(num_ranks, size=size), minlength=num_ranks).cumsum()[:-1]
        inside += bool(((counts >= low) & (counts <= high)).all())
    error = math.sqrt(level * (1 - level) / repeats)
    # counts are whole, so that a little more than the level is inside
    assert level - SIGMAS * error < inside / repeats < level + SIGMAS * error + 0.02


def test_a_band_and_a_p_value_agree():
    random = np.random.default_rng(1)
    low, high = band(300, 31, 0.9)
    found = []
    for _ in range(200):
        ranks = (31 * random.random(300) ** 1.12).astype(int)
        counts = np.bincount(ranks, minlength=31).cumsum()[:-1]
        found.append((p_value(ranks, 31) >= 0.1, bool(((counts >= low) & (counts <= high)).all())))
    assert {True, False} == {first for first, _ in found}
    assert np.mean([first == second for first, second in found]) > 0.98  # the band's level is not quite 0.9


def test_the_ends():
    assert p_value(np.zeros(1000, int), 101) < 1e-100
    assert p_value(np.full(1000, 100), 101) < 1e-100
    assert p_value([0], 1) == 1
    assert p_value(np.arange(10**5) % 101, 101) > 0.99
