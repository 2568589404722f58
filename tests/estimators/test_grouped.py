"""MIWAE, PIWAE and CIWAE against the bounds that they are made of."""

from __future__ import annotations

import pyro
import pytest
import torch

from ppl_vae import estimators
from ppl_vae.testing import oracles


def gradient(estimator, oracle, role):
    pyro.set_rng_seed(4)
    loss = estimator.differentiable_loss(oracle.pair.model, oracle.pair.guide, *oracle.batch)
    return torch.autograd.grad(loss, list(getattr(oracle.pair, role).parameters()))


@pytest.mark.parametrize("make", [oracles.linear_gaussian, oracles.bernoulli, oracles.chain])
def test_the_ends_are_the_elbo_and_the_iwae(make):
    oracle = make(0.3)
    particles = estimators.IWAE(6).draw(oracle.pair.model, oracle.pair.guide, *oracle.batch)
    elbo, iwae = estimators.ELBO(6).bound(particles), estimators.IWAE(6).bound(particles)
    for ours, wanted in (
        (estimators.MIWAE(6, 1), elbo),
        (estimators.MIWAE(1, 6), iwae),
        (estimators.CIWAE(1.0, 6), elbo),
        (estimators.CIWAE(0.0, 6), iwae),
        (estimators.PIWAE(2, 3), iwae),
        (estimators.CIWAE(0.25, 6), 0.25 * elbo + 0.75 * iwae),
    ):
        torch.testing.assert_close(ours.bound(particles), wanted)


def test_groups_are_bounds_of_their_own():
    oracle = oracles.linear_gaussian(0.3)
    particles = estimators.IWAE(6).draw(oracle.pair.model, oracle.pair.guide, *oracle.batch)
    groups = [part.logsumexp(0) - torch.tensor(3.0).log() for part in particles.log_weight.split(3)]
    wanted = torch.stack(groups).mean(0)
    torch.testing.assert_close(estimators.MIWAE(2, 3).bound(particles), wanted, check_dtype=False)


@pytest.mark.parametrize("make", [oracles.linear_gaussian, oracles.bernoulli, oracles.chain])
def test_piwae_gives_each_program_its_own_bound(make):
    oracle = make(0.3)
    ours, whole, groups = estimators.PIWAE(2, 3), estimators.IWAE(6), estimators.MIWAE(2, 3)
    for role, wanted in (("model", whole), ("guide", groups)):
        for got, expected in zip(gradient(ours, oracle, role), gradient(wanted, oracle, role), strict=True):
            torch.testing.assert_close(got, expected)


def test_groups_lower_the_variance_of_a_score_function():
    """Each group is rewarded with its own bound, not with everything's."""
    oracle = oracles.bernoulli(0.3)
    spread = []
    for surrogate in (estimators.MIWAE.surrogate, estimators.Estimator.surrogate):
        found = []
        for _ in range(200):
            particles = estimators.MIWAE(8, 1).draw(oracle.pair.model, oracle.pair.guide, *oracle.batch)
            term = surrogate(estimators.MIWAE(8, 1), particles).sum()
            found.append(torch.autograd.grad(term, oracle.pair.guide.slope)[0])
        spread.append(torch.stack(found).var(0).sum())
    assert spread[0] < 0.5 * spread[1]


@pytest.mark.parametrize("sizes", [(0, 2), (2, -1), (2, 1.5), (True, 2)])
@pytest.mark.parametrize("family", [estimators.MIWAE, estimators.PIWAE])
def test_sizes_must_be_positive_whole_numbers(family, sizes):
    with pytest.raises(ValueError, match=r"(num_groups|group_size) must be a positive whole number"):
        family(*sizes)


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_beta_is_a_share(beta):
    with pytest.raises(ValueError, match=r"beta must be in \[0, 1\]"):
        estimators.CIWAE(beta)
