"""CUBO: an upper bound in the limit, which the guide descends."""

from __future__ import annotations

import pyro
import pytest
import torch

from ppl_vae import estimators
from ppl_vae.estimators import CUBO
from ppl_vae.testing import oracles


@pytest.mark.parametrize("make", [oracles.linear_gaussian, oracles.chain])
@pytest.mark.parametrize("order", [1.0, 2.0, 3.5])
def test_value_and_gradients_against_renyi(make, order):
    oracle = make(0.3)
    pair, wanted = oracle.pair, []
    for estimator in (CUBO(order, 5), estimators.Renyi(1 - order, 5), estimators.IWAE(5)):
        pyro.set_rng_seed(3)
        particles = estimator.draw(pair.model, pair.guide, *oracle.batch)
        term = estimator.surrogate(particles).sum()
        wanted.append(
            [estimator.bound(particles)]
            + [
                torch.cat(
                    [
                        g.flatten()
                        for g in torch.autograd.grad(term, list(part.parameters()), retain_graph=True)
                    ]
                )
                for part in (pair.model, pair.guide)
            ]
        )
    (value, model, guide), renyi, iwae = wanted
    torch.testing.assert_close(value, renyi[0])
    torch.testing.assert_close(model, iwae[1])
    torch.testing.assert_close(guide, -renyi[2])


def test_it_lies_above_the_evidence_with_many_particles():
    oracle = oracles.bernoulli(0.5)
    x = oracle.batch[0].repeat(50, 1)
    bound = CUBO(2.0, 2000).draw(oracle.pair.model, oracle.pair.guide, x)
    gap = CUBO(2.0, 2000).bound(bound) - oracle.log_evidence(x)
    assert gap.mean() > 4.5 * gap.std() / 50**0.5


def test_training_the_guide_closes_the_gap():
    oracle, estimator = oracles.bernoulli(0.8), CUBO(2.0, 100)
    pair, (x,) = oracle.pair, oracle.batch
    optimizer = torch.optim.Adam(pair.guide.parameters(), lr=0.02)

    def gap():
        with torch.no_grad():
            particles = estimators.ELBO(2000).draw(pair.model, pair.guide, x)
            return (estimator.bound(particles) - oracle.log_evidence(x)).mean()

    before = gap()
    for _ in range(200):
        optimizer.zero_grad()
        estimator.differentiable_loss(pair.model, pair.guide, x).backward()
        optimizer.step()
    assert gap() < 0.2 * before


@pytest.mark.parametrize("order", [0.5, float("inf"), float("nan")])
def test_order_is_at_least_one(order):
    with pytest.raises(ValueError, match="order must be a finite number >= 1"):
        CUBO(order)


def test_one_particle_is_no_estimate_of_a_moment():
    with pytest.raises(ValueError, match="CUBO needs num_particles >= 2"):
        CUBO(2.0, 1)
