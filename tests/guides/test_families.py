"""Guides and the priors they belong to: every kind of gradient, and encoders that say extreme things.

The contract that they share with all pairs is in tests/test_zoo.py.
"""

from __future__ import annotations

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_vae as pv
from ppl_vae import estimators, guides, likelihoods, models, nets, priors, queries
from tests.capture.helpers import assert_same_steps, sgd

PAIRS = {
    "low rank": (guides.LowRank, None),
    "planar": (guides.Planar, None),
    "sylvester": (guides.Sylvester, None),
    "householder": (guides.HouseholderSylvester, None),
    "iaf": (guides.IAF, None),
    "spline": (guides.Spline, None),
    "semi-amortised": ("semi-amortised", None),
    "log-normal": (guides.LogNormal, priors.LogNormal),
    "gamma": (guides.Gamma, priors.Gamma),
    "gamma-exponential": (guides.Gamma, priors.Exponential),
    "exponential": (guides.Exponential, priors.Exponential),
    "gumbel": (guides.Gumbel, priors.Gumbel),
    "laplace": (guides.Laplace, priors.Laplace),
    "student-t": (guides.StudentT, priors.StudentT),
    "sphere": (guides.PowerSpherical, priors.Sphere),
}
FLOWS = (guides.Planar, guides.Sylvester, guides.HouseholderSylvester, guides.IAF, guides.Spline)
every_pair = pytest.mark.parametrize("name", PAIRS)


def build(name, latent_dim=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        guide, prior = PAIRS[name]
        likelihood = likelihoods.Bernoulli()
        decoder = nets.MLPDecoder(latent_dim, (1, 4, 4), (6,))
        model = models.VAE(likelihood, decoder, latent_dim, prior and prior(latent_dim))
        encoder = nets.MLPEncoder((1, 4, 4), latent_dim, (6,))
        if guide == "semi-amortised":
            return pv.Pair(model, guides.SemiAmortised(guides.MeanField(encoder), model))
        options = {"num_transforms": 2} if guide in FLOWS else {}
        return pv.Pair(model, guide(encoder, **options))


def images(count=6):
    return (torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.4).float()


@every_pair
def test_every_estimator_and_stock_svi(name):
    pair, x = build(name), images()
    for estimator in (estimators.IWAE(3), estimators.STL(2), estimators.DReG(3), estimators.TVO(3)):
        pair.zero_grad()
        loss = estimator.differentiable_loss(pair.model, pair.guide, x)
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in pair.parameters())
    svi = pyro.infer.SVI(*pair.pyro(), pyro.optim.Adam({"lr": 1e-2}), pyro.infer.Trace_ELBO())
    before = copy.deepcopy(pair.state_dict())
    assert torch.tensor([svi.step(x) for _ in range(3)]).isfinite().all()
    trained = [n for n, p in pair.named_parameters() if not torch.equal(p, before[n])]
    assert any(n.startswith("guide") for n in trained)
    assert any(n.startswith("model") for n in trained)


@pytest.mark.parametrize("name", ["low rank", "iaf", "gamma", "sphere"])
def test_a_captured_step_with_path_gradients(name):
    pair = build(name, 2).double()
    assert_same_steps(pair, estimators.STL(2), [(images(8).double(),)], make=sgd, steps=2)


@pytest.mark.parametrize("name", [n for n in PAIRS if PAIRS[n][1]])
@pytest.mark.usefixtures("double")
def test_the_parameters_stay_sensible_at_any_output_of_the_encoder(name):
    pair, x = build(name).double(), images().double()
    with torch.no_grad():
        for size in (1e2, -1e2):
            pair.guide.encoder.head.linear.bias.fill_(size)
            z = queries.encode(pair, x, num_samples=50, seed=0).latent
            assert z.isfinite().all()
    loss = estimators.ELBO().differentiable_loss(pair.model, pair.guide, x)
    loss.backward()
    assert pair.guide.encoder.head.linear.bias.grad.isfinite().all()


@pytest.mark.usefixtures("double")
def test_low_rank_has_the_covariance_it_says():
    guide = guides.LowRank(nets.MLPEncoder((4,), 3, (6,)), rank=2)
    x = torch.randn(5, 4)
    loc, scale = guide.encoder(x)
    mean_field = dist.Normal(loc, scale).to_event(1)
    z = mean_field.sample()
    torch.testing.assert_close(guide.posterior(x).log_prob(z), mean_field.log_prob(z), atol=0.3, rtol=0)
    guide.factor.weight.data.normal_()
    factor = guide.factor(guide.encoder.trunk(x)).unflatten(-1, (3, 2))
    expected = scale.diag_embed() @ (torch.eye(3) + factor @ factor.mT) @ scale.diag_embed()
    torch.testing.assert_close(guide.posterior(x).covariance_matrix, expected)
