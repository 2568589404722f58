"""FactorVAE: the discriminator finds a known total correlation, and the two trainings are kept apart."""

from __future__ import annotations

import math

import pytest
import torch

from ppl_vae.kl import FactorVAE
from tests.kl.programs import particles


def correlated(size, correlation, scale=0.3):
    prior = torch.tensor([[1.0, correlation], [correlation, 1.0]]) - scale**2 * torch.eye(2)
    loc = torch.randn(size, 2) @ torch.linalg.cholesky(prior).T
    return torch.cat([loc, torch.full((size, 2), scale)], -1)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_the_discriminator_learns_a_known_total_correlation(correlation):
    treatment = FactorVAE(2.0, hidden=(32, 32), learning_rate=3e-3)
    penalty = treatment.penalty("z", particles(correlated(4, 0.0)), data_size=1000)
    values = []
    for _ in range(300):
        with torch.no_grad():
            values.append(penalty(particles(correlated(500, correlation))))
        penalty.learn()
    exact = -0.5 * math.log(1 - correlation**2)
    assert float(torch.stack(values[-50:]).mean()) / 2.0 == pytest.approx(exact, abs=0.08)


def test_the_pairs_loss_moves_the_draws_and_not_the_discriminator():
    x = correlated(20, 0.8).requires_grad_()
    drawn = particles(x)
    penalty = FactorVAE(2.0, hidden=(8,)).penalty("z", drawn, data_size=20)
    penalty(drawn).backward()
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in penalty.parameters())
    before = [parameter.clone() for parameter in penalty.parameters()]
    gradient = x.grad.clone()
    penalty.learn()
    assert any(not torch.equal(new, old) for new, old in zip(penalty.parameters(), before, strict=True))
    assert torch.equal(x.grad, gradient), "the discriminator's loss must not reach the guide"


def test_without_new_draws_nothing_is_learned():
    penalty = FactorVAE(2.0, hidden=(8,)).penalty("z", particles(correlated(5, 0.5)), data_size=20)
    before = [parameter.clone() for parameter in penalty.parameters()]
    penalty.learn()
    assert all(torch.equal(new, old) for new, old in zip(penalty.parameters(), before, strict=True))


def test_gradients_are_averaged_over_processes():
    drawn = particles(correlated(5, 0.5))
    penalty = FactorVAE(2.0, hidden=(8,)).penalty("z", drawn, data_size=20)
    penalty(drawn)
    seen = []
    penalty.learn(all_reduce=lambda gradient: seen.append(gradient) or gradient)
    assert [g.shape for g in seen] == [p.shape for p in penalty.parameters()]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"gamma must be a finite number >= 0, got -1"):
        FactorVAE(-1.0)
    with pytest.raises(ValueError, match=r"learning_rate must be a positive number, got 0"):
        FactorVAE(1.0, learning_rate=0.0)
