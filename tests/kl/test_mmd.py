"""MMD against closed forms of Gaussian kernels and brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from ppl_vae.kl import MMD
from ppl_vae.kl.mmd import mmd_squared
from tests.conftest import SIGMAS
from tests.kl.programs import particles


@pytest.mark.parametrize("kernel", ["gaussian", "inverse multiquadric"])
def test_equal_distributions_have_an_unbiased_estimate_of_zero(kernel, double):
    values = mmd_squared(torch.randn(2000, 20, 3), torch.randn(2000, 20, 3), kernel)
    assert abs(float(values.mean())) < SIGMAS * float(values.std()) / math.sqrt(2000)
    assert (
        float(mmd_squared(torch.randn(50, 20, 3), torch.randn(50, 20, 3), kernel, 1.0, "V-statistic").min())
        >= 0
    )


def test_a_shifted_normal_has_its_closed_form(double):
    shift, h = 1.5, 2.0  # one dimension and bandwidth 1
    values = mmd_squared(torch.randn(4000, 10, 1) + shift, torch.randn(4000, 10, 1))
    # z - u ~ N(shift, 2), so E exp(-(z - u)^2 / h) = sqrt(h / (h + 4)) exp(-shift^2 / (h + 4))
    exact = 2 * math.sqrt(h / (h + 4)) * (1 - math.exp(-(shift**2) / (h + 4)))
    assert abs(float(values.mean()) - exact) < SIGMAS * float(values.std()) / math.sqrt(4000)


@pytest.mark.parametrize("estimate", ["unbiased", "V-statistic"])
def test_both_estimates_by_brute_force(estimate, double):
    z, u, s = torch.randn(4, 2), torch.randn(3, 2), 0.7

    def mean(first, second, same):
        pairs = [(i, j) for i, j in itertools.product(range(len(first)), range(len(second)))]
        kept = [(i, j) for i, j in pairs if not (same and estimate == "unbiased" and i == j)]
        h = 2 * 2 * s**2
        return sum(h / (h + float((first[i] - second[j]).square().sum())) for i, j in kept) / len(kept)

    expected = mean(z, z, True) + mean(u, u, True) - 2 * mean(z, u, False)
    value = mmd_squared(z, u, "inverse multiquadric", s, estimate)
    assert float(value) == pytest.approx(expected)


def test_the_penalty_compares_the_draws_with_the_prior(double):
    shifted = torch.cat([torch.full((300, 2), 2.0), torch.full((300, 2), 0.5)], -1).requires_grad_()
    white = torch.cat([math.sqrt(0.75) * torch.randn(300, 2), torch.full((300, 2), 0.5)], -1)
    treatment = MMD(4.0, alpha=0.25)
    assert treatment.at(0.0) == 0.75
    far, near = (particles(x, 2) for x in (shifted, white))
    penalty = treatment.penalty("z", far, 300)
    value = penalty(far)
    assert float(penalty(near).detach()) < 0.02 * float(value.detach())
    value.backward()
    assert (shifted.grad[:, :2].sum(0) > 0).all(), "descent moves the draws to the prior"


def test_the_weight_is_alpha_plus_lambda_minus_one(double):
    x = torch.cat([torch.ones(30, 2), torch.full((30, 2), 0.5)], -1)
    drawn, values = particles(x), []
    for treatment in (MMD(4.0, alpha=0.0), MMD(4.0, alpha=1.0)):
        torch.manual_seed(2)
        values.append(float(treatment.penalty("z", drawn, 30)(drawn)))
    assert values[1] == pytest.approx(values[0] * 4 / 3)


def test_one_datum_is_finite():
    drawn = particles(torch.tensor([[0.3, 1.0]]))
    for estimate in ("unbiased", "V-statistic"):
        assert MMD(2.0, estimate=estimate).penalty("z", drawn, 5)(drawn).isfinite()


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"weight": 1.0, "alpha": 2.0}, "alpha must be at most 1"),
        ({"weight": 0.5}, "weight must be a finite number >= 1"),
        ({"weight": 2.0, "bandwidth": 0.0}, "bandwidth must be a positive number"),
        ({"weight": 2.0, "kernel": "box"}, "kernel must be one of"),
        ({"weight": 2.0, "estimate": "biased"}, "estimate must be one of"),
    ],
)
def test_what_makes_no_sense_is_refused(options, fragment):
    with pytest.raises(ValueError, match=fragment):
        MMD(**options)
