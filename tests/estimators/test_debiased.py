"""JVI and SUMO: how their bias falls, and identities of their sums."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from ppl_vae import estimators
from ppl_vae.estimators import IWAE, JVI, SUMO
from ppl_vae.testing import oracles


def particles_of(oracle, num_particles, repeats=1):
    batch = tuple(t.repeat(repeats, 1) for t in oracle.batch)
    with torch.no_grad():
        return IWAE(num_particles).draw(oracle.pair.model, oracle.pair.guide, *batch)


def iwae(log_weight):
    return log_weight.logsumexp(0) - math.log(len(log_weight))


def test_order_zero_is_the_iwae():
    particles = particles_of(oracles.chain(), 6)
    torch.testing.assert_close(JVI(0, 6).bound(particles), IWAE(6).bound(particles))


def test_order_one_is_the_jackknife():
    particles = particles_of(oracles.chain(), 5)
    log_weight = particles.log_weight
    left = [iwae(log_weight[[j for j in range(5) if j != k]]) for k in range(5)]
    wanted = 5 * iwae(log_weight) - 4 * torch.stack(left).mean(0)
    torch.testing.assert_close(JVI(1, 5).bound(particles), wanted)


def test_the_bias_falls_with_the_order():
    oracle = oracles.bernoulli(0.8)
    particles = particles_of(oracle, 6, repeats=100_000)
    evidence = oracle.log_evidence(*oracle.batch).mean()
    bias, error = [], []
    for order in (0, 1, 2):
        values = JVI(order, 6).bound(particles) - evidence
        values = values.view(-1, 2).mean(1)
        bias.append(values.mean().abs().item())
        error.append(values.std().item() / math.sqrt(len(values)))
    assert bias[1] < 0.35 * bias[0]
    assert bias[2] < bias[1] + 4.5 * error[2]
    assert bias[0] > 20 * error[0], "the test would not notice a bias"


def test_sumo_telescopes_to_the_bound_of_all_particles():
    """The expectation over T of the same particles' partial sums is their importance-weighted bound."""
    estimator, particles = SUMO(3, 120), particles_of(oracles.chain(), 120)
    survival = torch.cat([estimator.survival(), torch.zeros(1, dtype=torch.float64)])
    chance = survival[:-1] - survival[1:]
    assert chance.min() >= 0
    assert chance.sum().item() == pytest.approx(1)
    partial = [estimator.bound(_first(particles, 3 + terms)) for terms in range(1, len(chance) + 1)]
    expected = (chance[:, None] * torch.stack(partial)).sum(0)
    torch.testing.assert_close(expected, IWAE(120).bound(particles))


def _first(particles, count):
    return replace(
        particles,
        log_likelihood={s: t[:count] for s, t in particles.log_likelihood.items()},
        log_prior={s: t[:count] for s, t in particles.log_prior.items()},
        log_guide={s: t[:count] for s, t in particles.log_guide.items()},
    )


def test_sumo_draws_as_many_particles_as_it_says():
    oracle, estimator = oracles.bernoulli(0.3), SUMO(2, 50)
    torch.manual_seed(0)
    sizes = torch.tensor(
        [
            estimator.draw(oracle.pair.model, oracle.pair.guide, *oracle.batch).num_particles
            for _ in range(600)
        ]
    )
    assert sizes.min() == 3
    assert sizes.max() <= 50
    for terms in (2, 5):
        share = (sizes >= 2 + terms).double().mean()
        assert abs(share - 1 / terms) < 4.5 * math.sqrt((1 / terms) * (1 - 1 / terms) / 600)


def test_sumo_is_unbiased_where_the_iwae_is_not():
    oracle = oracles.bernoulli(0.6)
    torch.manual_seed(1)
    evidence = oracle.log_evidence(*oracle.batch).mean()
    x = oracle.batch[0].repeat(30, 1)
    with torch.no_grad():
        values = torch.stack(
            [
                SUMO(2, 200).bound(SUMO(2, 200).draw(oracle.pair.model, oracle.pair.guide, x)).mean()
                for _ in range(750)
            ]
        )
    error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() - evidence) < 4.5 * error
    low = IWAE(2).bound(particles_of(oracle, 2, 20_000)).mean() - evidence
    assert low < -6 * error, "the test would not notice a bias"


@pytest.mark.parametrize("arguments", [(-1, 5), (5, 5), (1.0, 5)])
def test_the_order_is_below_the_number_of_particles(arguments):
    with pytest.raises(ValueError, match="order must be a whole number"):
        estimators.JVI(*arguments)


def test_the_most_particles_are_more_than_the_fewest():
    with pytest.raises(ValueError, match="max_particles must be above"):
        SUMO(5, 5)
