"""The deterministic guide: codes without uncertainty, and the Wasserstein autoencoder made of them."""

from __future__ import annotations

import pyro.poutine as poutine
import torch

import ppl_vae as pv
from ppl_vae import estimators, guides, kl, likelihoods, models, nets
from ppl_vae.kl.mmd import mmd_squared

SHAPE = (1, 4, 4)


def make():
    guide = guides.Deterministic(nets.MLPEncoder(SHAPE, 2, (16,)))
    return pv.Pair(models.VAE(likelihoods.Bernoulli(), nets.MLPDecoder(2, SHAPE, (16,)), 2), guide)


def test_the_code_is_the_encoders_location():
    pair, x = make(), torch.rand(5, *SHAPE)
    site = poutine.trace(pair.guide).get_trace(x).nodes["z"]
    assert torch.equal(site["value"], pair.guide.encoder(x)[0])
    assert torch.equal(site["fn"].log_prob(site["value"]), torch.zeros(5))


def test_under_a_prior_the_objective_is_the_joint_density_at_the_code():
    pair, x = make(), (torch.rand(5, *SHAPE) < 0.5).float()
    z = pair.guide.encoder(x)[0]
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
    expected = pair.model.likelihood(pair.model.decoder(z)).log_prob(x).sum() + prior
    for estimator in (estimators.ELBO(), estimators.MeanFieldELBO()):
        torch.testing.assert_close(-estimator.differentiable_loss(pair.model, pair.guide, x), expected)


def test_with_a_discrepancy_it_is_a_wasserstein_autoencoder():
    x = (torch.rand(400, *SHAPE) < torch.rand(400, 1, 1, 1)).float()
    distance = {}
    for name, treatment in (("plain", kl.Beta(0.0)), ("wasserstein", kl.MMD(200.0, alpha=1.0))):
        torch.manual_seed(0)
        pair = make()
        pair.guide.encoder.head.linear.bias.data[:2] = 2.0  # codes that start beside the prior
        pv.fit(
            pair, estimators.ELBO(), x, epochs=25, batch_size=100, progress=False, kl=treatment,
            learning_rate=5e-3,
        )  # fmt: skip
        codes = pv.encode(pair, x).mean
        distance[name] = float(mmd_squared(codes, torch.randn(2000, 2)))
    assert distance["wasserstein"] < 0.01 < 0.1 < distance["plain"]
