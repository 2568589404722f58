"""Chains of latents: against the joint normal of a linear one, and with unequal lengths."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from ppl_vae.distributions.chain import NormalChain

MOVE, NOISE, STEPS = 0.8, 0.6, 4


def linear(z):
    return MOVE * z, torch.full_like(z, NOISE)


def joint(steps):
    """Of a linear chain that begins at 1: the mean and the covariance of its steps, written out."""
    number = torch.arange(steps, dtype=torch.float64)
    powers = MOVE ** (number[:, None] - number).clamp_min(0) * (number[:, None] >= number)
    covariance = NOISE**2 * powers @ powers.T
    return MultivariateNormal(MOVE ** (number + 1), covariance)


@pytest.fixture
def start():
    return torch.ones(1, dtype=torch.float64)


def test_a_linear_chain_is_the_joint_normal(start):
    chain = NormalChain(linear, start, STEPS)
    torch.manual_seed(0)
    z = chain.rsample((20_000,))
    torch.testing.assert_close(chain.log_prob(z[:50]), joint(STEPS).log_prob(z[:50, :, 0]))
    known = joint(STEPS)
    error = (z.squeeze(-1).mean(0) - known.mean) / (known.variance / len(z)).sqrt()
    assert error.abs().max() < 4.5
    spread = z.squeeze(-1).T.cov() - known.covariance_matrix
    worst = known.variance.max() * (2 / len(z)) ** 0.5
    assert spread.abs().max() < 4.5 * worst


def test_from_its_end_on_a_chain_is_standard_normal(start):
    there = torch.arange(STEPS) < torch.tensor([4, 2, 0])[:, None]
    chain = NormalChain(linear, start, STEPS, there)
    z = torch.randn(5, 3, STEPS, 1, dtype=torch.float64)
    expected = torch.stack(
        [
            joint(4).log_prob(z[:, 0, :, 0]),
            joint(2).log_prob(z[:, 1, :2, 0]) + Normal(0, 1).log_prob(z[:, 1, 2:, 0]).sum(-1),
            Normal(0, 1).log_prob(z[:, 2, :, 0]).sum(-1),
        ],
        -1,
    )
    torch.testing.assert_close(chain.log_prob(z), expected)
    drawn = chain.rsample((4000,)).squeeze(-1)[:, 2]
    assert (drawn.var(0) - 1).abs().max() < 4.5 * (2 / 4000) ** 0.5


def test_a_context_tells_each_step_of_its_own_datum():
    context = torch.randn(2, 3, 5)
    net = torch.nn.Linear(4 + 5, 4)

    def step(z, told):
        return net(torch.cat([z, told], -1)), torch.ones_like(z)

    chain = NormalChain(step, torch.zeros(4), 3, context=context)
    assert chain.batch_shape == (2,)
    z = chain.expand((6, 2)).rsample()
    assert z.shape == (6, 2, 3, 4)
    total = torch.zeros(6, 2)
    before = torch.zeros(6, 2, 4)
    for number in range(3):
        loc, scale = step(before, context[:, number].expand(6, 2, 5))
        total += Normal(loc, scale).log_prob(z[:, :, number]).sum(-1)
        before = z[:, :, number]
    torch.testing.assert_close(chain.log_prob(z), total)


def test_draws_carry_gradients_along_the_chain(start):
    start = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(NormalChain(linear, start, 3).rsample()[-1, 0], start)
    torch.testing.assert_close(gradient, torch.full_like(start, MOVE**3).detach())
