from __future__ import annotations

import math

import pytest
import torch

from ppl_vae.comparison.moments import Moments, snr_floor
from ppl_vae.comparison.slopes import fit_slope


def moments_of(gradients, pieces=7):
    moments, first = Moments.empty(gradients.shape[1], len(gradients)), 0
    for part in gradients.split(pieces):
        moments.add(part, first)
        first += len(part)
    return moments


def test_moments_in_pieces_are_those_of_the_whole(double):
    gradients = torch.randn(103, 5) + 3
    moments = moments_of(gradients)
    assert moments.num_draws == 103
    torch.testing.assert_close(moments.mean, gradients.mean(0))
    torch.testing.assert_close(moments.mean_variance, gradients.var(0) / 103)
    assert moments.variance().value == pytest.approx(gradients.var(0).mean().item())
    part = moments.part(slice(1, 3))
    torch.testing.assert_close(part.mean, gradients[:, 1:3].mean(0))


def test_squares_have_the_noise_taken_off_and_errors_that_cover(double):
    """Many repetitions: the estimates' mean is the truth, their spread the jackknife's error."""
    mean, deviation = torch.tensor([0.1, -0.3, 0.0]), torch.tensor([1.0, 0.5, 2.0])
    truth = {
        "variance": deviation.square().mean(),
        "signal": mean.square().mean(),
        "snr_squared": (mean / deviation).square().mean(),
    }
    found = {name: [] for name in truth}
    for _ in range(100):
        moments = moments_of(mean + deviation * torch.randn(60, 3), pieces=60)
        for name, values in found.items():
            values.append(getattr(moments, name)())
    for name, values in found.items():
        value, error = torch.tensor(values).T
        assert abs(value.mean() - truth[name]) < 4.5 * value.std() / 10, name
        assert 0.7 < error.mean() / value.std() < 1.3, name


def test_the_distance_from_a_reference_is_zero_on_average_for_the_same_gradient(double):
    distances = []
    for _ in range(100):
        own, other = (moments_of(1 + torch.randn(40, 4), pieces=40) for _ in range(2))
        distances.append(own.distance(other.mean, other))
    value, error = torch.tensor(distances).T
    assert abs(value.mean()) < 4.5 * value.std() / 10
    assert 0.6 < error.mean() / value.std() < 1.5
    shifted = moments_of(1.5 + torch.randn(4000, 4), pieces=500).distance(torch.ones(4))
    assert shifted.value == pytest.approx(0.25, abs=4.5 * shifted.standard_error)


def test_the_plain_ratio_has_a_floor_and_the_square_has_none(double):
    moments = moments_of(torch.randn(2000, 300), pieces=500)
    assert moments.snr_absolute() == pytest.approx(snr_floor(2000), rel=0.2)
    value, error = moments.snr_squared()
    assert abs(value) < 4.5 * error


def test_a_gradient_without_noise_has_no_ratio(double):
    assert math.isnan(moments_of(torch.ones(20, 2)).snr_squared().value)


@pytest.mark.parametrize("power", [-0.5, 1.0])
def test_a_slope_is_recovered_with_an_error_that_covers(double, power):
    x = [1, 2, 5, 10, 20, 50, 100]
    found = []
    for _ in range(100):
        error = [0.05 * k**power for k in x]
        y = [3 * k**power + e * float(torch.randn(())) for k, e in zip(x, error)]
        found.append(fit_slope(x, y, error))
    slopes = torch.tensor([each.slope for each in found])
    assert abs(slopes.mean() - power) < 4.5 * slopes.std() / 10
    errors = torch.tensor([each.standard_error for each in found])
    assert 0.8 < errors.mean() / slopes.std() < 1.5
    assert found[0].at(10) == pytest.approx(3 * 10**power, rel=0.2)


def test_a_bent_line_has_a_larger_error():
    x, error = [1, 10, 100, 1000], [1e-3] * 4
    straight = fit_slope(x, [1.0, 10.0, 100.0, 1000.0], error)
    bent = fit_slope(x, [1.0, 20.0, 200.0, 1000.0], error)
    assert bent.standard_error > 10 * straight.standard_error


def test_points_in_the_noise_are_left_out():
    fitted = fit_slope([1, 10, 100, 1000], [1.0, 0.1, 0.01, 0.4], [0.01, 0.001, 0.0001, 0.3])
    assert fitted.num_points == 3
    assert fitted.slope == pytest.approx(-1.0)
    assert math.isnan(fit_slope([1, 10], [1.0, 0.0], [0.1, 0.1]).slope)
    assert math.isnan(fit_slope([], [], []).slope)
