"""The normal distribution on levels: probabilities that sum to one, two levels, moments, draws."""

from __future__ import annotations

import pytest
import torch

from ppl_vae.likelihoods.quantised_normal import QuantisedNormal
from tests.conftest import SIGMAS


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_the_probabilities_are_those_of_the_density_and_sum_to_one(double, levels):
    values = torch.arange(levels) / (levels - 1.0)
    fn = QuantisedNormal(torch.tensor([0.3, -0.1]), torch.tensor(0.2), levels)
    log_prob = fn.log_prob(values[:, None])
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(2))
    density = torch.distributions.Normal(fn.loc, fn.scale).log_prob(values[:, None])
    torch.testing.assert_close(log_prob - log_prob[0], density - density[0])
    torch.testing.assert_close(fn.mean, (log_prob.exp() * values[:, None]).sum(0))
    torch.testing.assert_close(fn.variance, (log_prob.exp() * (values[:, None] - fn.mean) ** 2).sum(0))


def test_two_levels_are_a_bernoulli(double):
    loc, scale = torch.tensor([0.3, 0.9]), torch.tensor(0.6)
    bernoulli = torch.distributions.Bernoulli(logits=(2 * loc - 1) / (2 * scale**2))
    for value in (torch.zeros(2), torch.ones(2)):
        torch.testing.assert_close(QuantisedNormal(loc, scale, 2).log_prob(value), bernoulli.log_prob(value))


def test_little_noise_leaves_the_level(double):
    values = torch.arange(256) / 255.0
    fn = QuantisedNormal(values + 5e-4, torch.tensor(6.5e-4), 256)
    assert bool((fn.log_prob(values) > -1e-3).all())
    assert bool((fn.log_prob((values + 1 / 255).clamp_max(1))[:-1] < -10).all())


def test_draws_and_what_is_off_the_levels(double):
    fn = QuantisedNormal(torch.tensor([0.3, 0.9]), torch.tensor(0.3), 4).expand((3, 2))
    drawn = fn.sample((20_000,))
    assert drawn.shape == (20_000, 3, 2)
    assert bool(fn.support.check(drawn).all())
    assert bool(((drawn.mean(0) - fn.mean).abs() < SIGMAS * (fn.variance / 20_000).sqrt()).all())
    with pytest.raises(ValueError, match="one of 0, 1/3"):
        fn.log_prob(torch.full((3, 2), 0.5))
