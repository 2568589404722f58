"""The kernel estimate of a density, against torch's mixtures and a density that is known."""

from __future__ import annotations

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from ppl_vae.evaluate.kernel_density import best_width, log_density


def test_it_is_a_mixture_of_its_draws(double):
    draws, points = torch.randn(30, 2), torch.randn(700, 2)
    kernels = Independent(Normal(draws, 0.3), 1)
    expected = MixtureSameFamily(Categorical(torch.ones(30)), kernels).log_prob(points)
    torch.testing.assert_close(log_density(points, draws, 0.3), expected)


def test_the_width_follows_the_draws(double):
    few, many = torch.randn(50, 2), torch.randn(3000, 2)
    assert best_width(many, torch.randn(1000, 2)) < best_width(few, torch.randn(1000, 2))
    centres = torch.randn(10, 2)
    bumps = [centres[torch.randint(10, (1000,))] + 0.02 * torch.randn(1000, 2) for _ in range(2)]
    assert best_width(*bumps) < 0.05  # clusters are not smeared over what is between them


def test_it_comes_near_the_truth(double):
    draws, others = torch.randn(4000, 2), torch.randn(1000, 2)
    estimate = log_density(others, draws, best_width(draws, others))
    truth = Normal(0.0, 1.0).log_prob(others).sum(-1)
    # the mean of the difference is the Kullback-Leibler divergence
    assert 0 < (truth - estimate).mean() < 0.05
