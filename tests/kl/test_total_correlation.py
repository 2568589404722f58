"""TotalCorrelation against mixtures that can be written down, and against a correlated Gaussian."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from ppl_vae.kl import TotalCorrelation
from ppl_vae.kl.aggregate import cross_log_prob
from ppl_vae.kl.total_correlation import log_weights, total_correlation
from tests.kl.programs import particles

X = torch.tensor([[0.1, 2.0, 0.9, 0.5], [-0.4, -1.0, 1.0, 0.3], [1.5, 0.2, 0.4, 0.8]], dtype=torch.float64)


def test_each_draw_is_seen_under_the_guide_of_every_datum():
    drawn = particles(X, 4)
    z, cross = drawn.guide_trace.nodes["z"]["value"], cross_log_prob(drawn, "z")
    assert cross.shape == (3, 4, 3, 2)
    for i, k, j in itertools.product(range(3), range(4), range(3)):
        expected = Normal(X[j, :2], X[j, 2:]).log_prob(z[k, i])
        torch.testing.assert_close(cross[i, k, j], expected)


@pytest.mark.parametrize("num_particles", [1, 5])
def test_with_the_whole_data_set_as_batch_the_stratified_estimate_is_exact(num_particles):
    drawn = particles(X, num_particles)
    z = drawn.guide_trace.nodes["z"]["value"]
    even = torch.full((3,), 1 / 3, dtype=torch.float64)
    joint = MixtureSameFamily(Categorical(even), Independent(Normal(X[:, :2], X[:, 2:]), 1)).log_prob(z)
    single = [
        MixtureSameFamily(Categorical(even), Normal(X[:, j], X[:, 2 + j])).log_prob(z[..., j]) for j in (0, 1)
    ]
    penalty = TotalCorrelation(4.0, "stratified").penalty("z", drawn, data_size=3)
    torch.testing.assert_close(penalty(drawn), 3 * (joint - sum(single)).mean())


def test_the_minibatch_weighted_estimate_is_the_papers_formula():
    drawn = particles(X)
    z = drawn.guide_trace.nodes["z"]["value"]
    terms = []
    for i in range(3):
        each = torch.stack([Normal(X[j, :2], X[j, 2:]).log_prob(z[i]) for j in range(3)])
        joint = (each.sum(-1).exp().sum() / (100 * 3)).log()
        terms.append(joint - (each.exp().sum(0) / (100 * 3)).log().sum())
    penalty = TotalCorrelation(3.0).penalty("z", drawn, data_size=100)
    torch.testing.assert_close(penalty(drawn), 2 * torch.stack(terms).mean())


def test_stratified_weights_are_unbiased_for_the_aggregate():
    # every batch of 3 of the 5 data that holds datum 0: on average each datum must weigh 1/5
    weights = torch.zeros(5, dtype=torch.float64)
    batches = [(0, *rest) for rest in itertools.combinations(range(1, 5), 2)]
    for batch in batches:
        row = log_weights(3, 5, "stratified", weights)[0].exp()
        weights[list(batch)] += row / len(batches)
    torch.testing.assert_close(weights, torch.full_like(weights, 0.2))


def test_a_correlated_gaussian(double):
    correlation, scale, size = 0.8, 0.4, 1500
    prior = torch.tensor([[1.0, correlation], [correlation, 1.0]]) - scale**2 * torch.eye(2)
    loc = torch.randn(size, 2) @ torch.linalg.cholesky(prior).T
    drawn = particles(torch.cat([loc, torch.full((size, 2), scale)], -1))
    cross = cross_log_prob(drawn, "z")
    estimate = total_correlation(cross, log_weights(size, size, "stratified", cross))
    # the spread of log q(z) - sum log q(z_j) is about 0.8; the finite mixture adds some bias
    assert float(estimate) == pytest.approx(-0.5 * math.log(1 - correlation**2), abs=0.1)


@pytest.mark.parametrize("estimator", ["minibatch-weighted", "stratified"])
def test_the_gradient_reduces_the_correlation(estimator, double):
    loc = torch.randn(200, 1).expand(200, 2) + 0.3 * torch.randn(200, 2)
    x = torch.cat([loc, torch.full((200, 2), 0.3)], -1).requires_grad_()
    drawn = particles(x)
    TotalCorrelation(2.0, estimator).penalty("z", drawn, data_size=1000)(drawn).backward()
    with torch.no_grad():
        moved = x - 20 * x.grad
    before, after = (torch.corrcoef(v[:, :2].T)[0, 1] for v in (x.detach(), moved))
    assert after < before - 0.01


@pytest.mark.parametrize("estimator", ["minibatch-weighted", "stratified"])
def test_a_single_datum_and_a_single_dimension_are_finite(estimator):
    drawn = particles(X[:1])
    value = TotalCorrelation(2.0, estimator).penalty("z", drawn, data_size=10)(drawn)
    assert value.isfinite()
    drawn = particles(X[:, [0, 2]])
    value = TotalCorrelation(2.0, estimator).penalty("z", drawn, data_size=10)(drawn)
    torch.testing.assert_close(value, torch.zeros_like(value), atol=1e-12, rtol=0)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"beta must be a finite number >= 0, got -1"):
        TotalCorrelation(-1.0)
    with pytest.raises(ValueError, match=r"estimator must be one of \['minibatch-weighted', 'stratified'\]"):
        TotalCorrelation(4.0, "batch")
