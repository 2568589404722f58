"""TVO: Riemann sums around the importance-weighted bound, and their partitions."""

from __future__ import annotations

import pyro
import pytest
import torch

from ppl_vae import estimators
from ppl_vae.estimators import TVO
from ppl_vae.testing import oracles


def particles_of(oracle, num_particles=50):
    return TVO(num_particles).draw(oracle.pair.model, oracle.pair.guide, *oracle.batch)


@pytest.mark.parametrize("partition", ["log_uniform", "moments"])
@pytest.mark.parametrize("make", [oracles.linear_gaussian, oracles.bernoulli, oracles.chain])
def test_the_sums_enclose_the_importance_weighted_bound(make, partition):
    """Sample by sample: the integrand of the same particles rises and integrates to their bound."""
    particles = particles_of(make(0.2))
    iwae = estimators.IWAE(50).bound(particles)
    previous = None
    for num_intervals in (1, 2, 10, 100):
        estimator = TVO(50, num_intervals, partition, first=0.01)
        lower, upper = estimator.bound(particles), estimator.upper_bound(particles)
        assert (lower <= iwae + 1e-9).all()
        assert (upper >= iwae - 1e-9).all()
        gap = (upper - lower).max()
        assert previous is None or gap < previous
        previous = gap
    torch.testing.assert_close(lower, iwae, rtol=0, atol=0.05)


def test_one_interval_is_the_elbo():
    particles = particles_of(oracles.linear_gaussian(0.2))
    torch.testing.assert_close(TVO(50, 1).bound(particles), estimators.ELBO(50).bound(particles))


def test_the_upper_bound_lies_above_the_evidence():
    oracle = oracles.linear_gaussian(0.15)
    x = oracle.batch[0].repeat(100, 1)
    particles = TVO(1000).draw(oracle.pair.model, oracle.pair.guide, x)
    upper = TVO(1000, 5).upper_bound(particles)
    gap = upper - oracle.log_evidence(x)
    assert gap.mean() > 4.5 * gap.std() / 10


def test_the_log_uniform_partition():
    beta = TVO(4, 4, first=0.001).betas(particles_of(oracles.linear_gaussian()))
    wanted = torch.tensor([0.0, 0.001, 0.01, 0.1, 1.0], dtype=torch.float64)
    torch.testing.assert_close(beta[:, 0], wanted, rtol=1e-5, atol=1e-7)


def test_moments_are_evenly_spaced():
    particles = particles_of(oracles.linear_gaussian(0.2))
    beta = TVO(50, 6, "moments").betas(particles)
    weight = (beta.unsqueeze(1) * particles.log_weight).softmax(1)
    steps = (weight * particles.log_weight).sum(1).diff(dim=0)
    assert (beta.diff(dim=0) > 0).all()
    torch.testing.assert_close(steps, steps.mean(0).expand_as(steps), rtol=1e-3, atol=1e-4)


def test_moments_stay_in_range_at_the_exact_posterior():
    beta = TVO(50, 4, "moments").betas(particles_of(oracles.linear_gaussian()))
    assert ((beta >= 0) & (beta <= 1)).all()
    assert (beta.diff(dim=0) >= 0).all()


def test_the_models_gradient_is_that_of_the_bound():
    oracle, estimator = oracles.chain(), TVO(6, 3)
    found = []
    for surrogate in (estimator.surrogate, estimator.bound):
        pyro.set_rng_seed(2)
        particles = estimator.draw(oracle.pair.model, oracle.pair.guide, *oracle.batch)
        found.append(torch.autograd.grad(surrogate(particles).sum(), list(oracle.pair.model.parameters())))
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)


def test_the_guides_gradient_is_consistent():
    """With many particles it is the gradient of the limit, here by enumeration."""
    oracle = oracles.bernoulli(1.0)
    pair, (x,) = oracle.pair, oracle.batch
    z = torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0)).to(x)
    logits = x[:, None] * pair.guide.slope + pair.guide.offset
    log_q = torch.distributions.Bernoulli(logits=logits).log_prob(z).sum(-1)
    log_p = torch.distributions.Bernoulli(logits=pair.model.prior_logits).log_prob(z).sum(-1)
    log_p = log_p + torch.distributions.Normal(z * pair.model.weight, 1.0).log_prob(x[:, None]).sum(-1)
    log_w, limit = log_p - log_q, 0.0
    estimator = TVO(200_000, 3)
    particles = estimator.draw(pair.model, pair.guide, x)
    for beta, width in zip(*_partition(estimator, particles), strict=True):
        limit = limit + width * ((log_q + beta * log_w).softmax(-1) * log_w).sum(-1)
    wanted = torch.cat(torch.autograd.grad(limit.sum(), list(pair.guide.parameters())))
    got = torch.autograd.grad(estimator.surrogate(particles).sum(), list(pair.guide.parameters()))
    torch.testing.assert_close(torch.cat(got), wanted, rtol=0.03, atol=0.02)
    assert wanted.abs().max() > 0.2


def _partition(estimator, particles):
    beta = estimator.betas(particles)[:, 0]
    return beta[:-1], beta.diff()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_intervals": 0}, "num_intervals must be"),
        ({"partition": "even"}, "partition must be"),
        ({"first": 1.0}, "first must be"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        TVO(**arguments)
