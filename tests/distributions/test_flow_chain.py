"""Chains through flows: what is remembered is what the inverse gives, and padding is left alone."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from ppl_vae import nets, transforms
from ppl_vae.distributions.chain import NormalChain
from ppl_vae.distributions.flow_chain import FlowChain

STEPS, DIM, CONTEXT = 3, 2, 4


@pytest.fixture
def lazies():
    torch.manual_seed(0)
    made = [transforms.masked_autoregressive(DIM, CONTEXT, (5,), backwards=back) for back in (False, True)]
    for lazy in made:
        for parameter in lazy.double().parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return made


def chain(lazies, there=None):
    combiner = nets.Combiner(DIM, CONTEXT, 5).double()
    context = torch.randn(2, STEPS, CONTEXT, dtype=torch.float64)
    base = NormalChain(combiner, torch.zeros(DIM, dtype=torch.float64), STEPS, there, context)
    return FlowChain(base, [lazy.forward for lazy in lazies])


def test_the_density_of_a_draw_is_that_of_the_inverse_and_its_jacobian(lazies):
    single = chain(lazies)
    fn = single.expand((6, 2))
    z = fn.rsample()
    assert z.shape == (6, 2, STEPS, DIM)
    elsewhere = fn.log_prob(z.clone())
    torch.testing.assert_close(fn.log_prob(z), elsewhere)

    def noise(value):
        """The standard normal numbers of a value, all in one vector."""
        value = value.reshape(2, STEPS, DIM)
        factors = single.base.factors(value)
        return ((single._straight(value)[0] - factors.loc) / factors.scale).flatten()

    one = z[0].detach().flatten()
    log_det = torch.autograd.functional.jacobian(noise, one).slogdet().logabsdet
    expected = Normal(0.0, 1.0).log_prob(noise(one)).sum() + log_det
    torch.testing.assert_close(elsewhere[0].sum(), expected)


def test_a_draw_without_gradients_has_a_density_with_them(lazies):
    fn = chain(lazies)
    density = fn.log_prob(fn.sample())
    gradients = torch.autograd.grad(density.sum(), list(lazies[0].parameters()))
    assert all(bool((gradient != 0).any()) for gradient in gradients)


def test_what_comes_after_an_end_is_standard_normal(lazies):
    there = torch.tensor([[True, True, True], [True, False, False]])
    fn = chain(lazies, there)
    z = fn.rsample((4000,)).detach()
    padding = z[:, 1, 1:]
    assert (padding.var(0) - 1).abs().max() < 4.5 * (2 / 4000) ** 0.5
    moved = z.clone()
    moved[:, 1, 1:] += 1.0
    standard = Normal(0.0, 1.0)
    change = (standard.log_prob(padding + 1) - standard.log_prob(padding)).sum((-2, -1))
    torch.testing.assert_close(fn.log_prob(moved)[:, 1] - fn.log_prob(z)[:, 1], change)


def test_a_sequence_of_no_steps_has_the_normal_chain_s_density_to_the_last_bit(lazies):
    """So that it counts for nothing in a bound."""
    fn = chain(lazies, torch.zeros(2, STEPS, dtype=torch.bool))
    z = fn.rsample()
    assert torch.equal(fn.log_prob(z), fn.base.log_prob(z))


def test_a_chain_without_a_context_is_refused():
    base = NormalChain(lambda z: (z, torch.ones_like(z)), torch.zeros(2), 3)
    with pytest.raises(ValueError, match="the base has no context for its flow"):
        FlowChain(base, [])
