"""Sequences: the exact guide meets the Kalman evidence, and every bound stays below it elsewhere."""

from __future__ import annotations

import pytest
import torch
from pyro.infer import Trace_ELBO, TraceGraph_ELBO

import ppl_vae as pv
from ppl_vae import estimators, evaluate
from ppl_vae.evaluate import per_step
from ppl_vae.testing import check_pair
from ppl_vae.testing.state_space import kalman_evidence, state_space
from tests.capture.helpers import assert_same_steps, sgd

LENGTHS = (6, 1, 4, 2)


def test_the_filter_is_the_joint_normal():
    """Of one sequence: the covariance of x written out."""
    x, length = state_space((4,)).batch
    move = torch.tensor([[0.8 ** (i - j) if i >= j else 0.0 for j in range(4)] for i in range(4)]).double()
    covariance = 1.5**2 * 0.36 * move @ move.T + 0.25 * torch.eye(4, dtype=torch.float64)
    joint = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.float64), covariance)
    torch.testing.assert_close(kalman_evidence(x, length), joint.log_prob(x))


@pytest.mark.parametrize("num_particles", [1, 3])
def test_the_exact_guide_has_the_evidence_in_every_particle(num_particles):
    oracle = state_space(LENGTHS)
    programs, exact = (oracle.pair.model, oracle.pair.guide), oracle.log_evidence(*oracle.batch)
    weight = estimators.IWAE(num_particles).draw(*programs, *oracle.batch).log_weight
    torch.testing.assert_close(weight, exact.expand_as(weight), rtol=1e-9, atol=1e-9)
    likelihood = evaluate.log_likelihood(oracle.pair, oracle.batch, 10, progress=False)
    torch.testing.assert_close(likelihood.per_datum, exact, rtol=1e-5, atol=1e-5)
    value, error = per_step(likelihood, oracle.batch[1])
    assert value == pytest.approx(float(exact.sum()) / sum(LENGTHS), abs=1e-5)
    assert error > 0
    for loss in (Trace_ELBO(), TraceGraph_ELBO(), estimators.ELBO(), estimators.Renyi(0.5, 3)):
        assert -loss.loss(*programs, *oracle.batch) == pytest.approx(float(exact.sum()), abs=1e-5)


def test_bounds_stay_below_with_another_guide():
    oracle = state_space(LENGTHS, perturb=0.15)
    exact = oracle.log_evidence(*oracle.batch)
    torch.manual_seed(0)
    one, many = (
        evaluate.bounds(oracle.pair, oracle.batch, 2000).per_datum,
        evaluate.log_likelihood(oracle.pair, oracle.batch, 5000, progress=False).per_datum,
    )
    assert bool((one < exact - 0.01).all())
    torch.testing.assert_close(many, exact, rtol=0, atol=0.1)


def test_padding_makes_no_difference():
    x, length = state_space(LENGTHS).batch
    other = x.where(torch.arange(6) < length[:, None], 7.5)
    oracle = state_space(LENGTHS, perturb=0.3)
    scores = [evaluate.bounds(oracle.pair, (given, length), 3, seed=0).per_datum for given in (x, other)]
    torch.testing.assert_close(*scores)


def test_it_is_a_pair_like_any_other(double):
    oracle = state_space(LENGTHS, perturb=0.2)
    assert "number" not in str(check_pair(oracle.pair, *oracle.batch))
    assert_same_steps(oracle.pair, estimators.IWAE(2), [oracle.batch], sgd, steps=3)
    drawn = pv.reconstruct(oracle.pair, *oracle.batch, num_samples=2).values
    assert drawn["x_0"].shape == (2, 4)


@pytest.mark.parametrize("steps", [torch.tensor([1.0]), torch.tensor([3.0, 0.0, 1.0, 1.0])])
def test_steps_are_one_positive_number_each(steps):
    oracle = state_space(LENGTHS)
    with pytest.raises(ValueError, match="one positive number for each of the 4 data"):
        per_step(evaluate.bounds(oracle.pair, oracle.batch), steps)
