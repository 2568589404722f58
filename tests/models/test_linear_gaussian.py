"""Probabilistic PCA: its exact evidence and posterior against independent computations."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from ppl_vae import models

pytestmark = pytest.mark.usefixtures("double")


def make():
    model = models.LinearGaussian(latent_dim=2, data_dim=4, noise=0.6)
    model.bias.data.normal_()
    return model


def test_the_evidence_is_a_normal_density():
    model, x = make(), torch.randn(3, 5, 4)
    covariance = model.weight @ model.weight.T + 0.36 * torch.eye(4)
    expected = MultivariateNormal(model.bias, covariance).log_prob(x)
    torch.testing.assert_close(model.log_evidence(x), expected)


def test_the_evidence_is_the_integral_of_the_joint():
    model, x = make(), torch.randn(1, 4)
    grid = torch.cartesian_prod(*[torch.linspace(-8, 8, 321)] * 2)
    prior = -0.5 * grid.square().sum(-1) - torch.log(torch.tensor(2 * torch.pi))
    mean = grid @ model.weight.T + model.bias
    likelihood = torch.distributions.Normal(mean, 0.6).log_prob(x).sum(-1)
    integral = (prior + likelihood).logsumexp(0) + 2 * torch.log(torch.tensor(16 / 320))
    torch.testing.assert_close(integral, model.log_evidence(x)[0], rtol=1e-9, atol=1e-9)


def test_the_posterior_is_bayes_rule():
    model, x, z = make(), torch.randn(6, 4), torch.randn(6, 2)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    likelihood = torch.distributions.Normal(z @ model.weight.T + model.bias, 0.6).log_prob(x).sum(-1)
    expected = prior + likelihood - model.log_evidence(x)
    torch.testing.assert_close(model.posterior(x).log_prob(z), expected)


def test_noise_must_be_positive():
    with pytest.raises(ValueError, match="noise must be positive"):
        models.LinearGaussian(2, 4, noise=0.0)
