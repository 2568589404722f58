"""Padding: no density, no draws, and no gradient of what lies outside a support."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

from ppl_vae.core.elements import masked
from ppl_vae.distributions.padded import Padded, steps_there

THERE = torch.tensor([[True, True, False], [True, False, False]])


def steps(fn):
    return Padded(fn, THERE).to_event(1)


def test_padding_has_no_density():
    loc = torch.randn(2, 3, 4)
    x = torch.randn(2, 3, 4)
    each = dist.Normal(loc, 1.0).to_event(1)
    expected = torch.stack([each.log_prob(x)[0, :2].sum(), each.log_prob(x)[1, 0]])
    torch.testing.assert_close(steps(each).log_prob(x), expected)
    other = x.masked_fill(~THERE.unsqueeze(-1), 9.0)
    torch.testing.assert_close(steps(each).log_prob(other), expected)
    wide = steps(each).expand((5, 2))
    torch.testing.assert_close(wide.log_prob(x), expected.expand(5, 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda raw: dist.LogNormal(raw, 1.0),
        lambda raw: dist.Gamma(raw.exp(), 1.0),
        lambda raw: dist.Bernoulli(logits=raw),
        lambda raw: dist.Poisson(raw.exp()),
        lambda raw: dist.OneHotCategorical(logits=raw.unsqueeze(-1).expand(2, 3, 2)),
    ],
)
def test_padding_outside_of_a_support_meets_no_density(make):
    raw = torch.zeros(2, 3, requires_grad=True)
    fn = make(raw)
    x = fn.sample().detach()
    x = x.masked_fill(~THERE.reshape(2, 3, *[1] * (x.dim() - 2)), 0.0)
    density = steps(fn).log_prob(x)
    density.sum().backward()
    assert density.isfinite().all()
    assert raw.grad.isfinite().all()
    assert (raw.grad[~THERE] == 0).all()


def test_draws_and_means_end_in_zeros():
    fn = steps(dist.Normal(torch.full((2, 3, 4), 7.0), 1.0).to_event(1))
    for value in (fn.sample((6,)), fn.rsample(), fn.mean, fn.variance):
        gone = ~THERE.expand(value.shape[:-1])
        assert (value[gone] == 0).all()
        assert (value[~gone] != 0).all()


def test_some_of_the_steps_may_be_hidden_too():
    each = dist.Normal(torch.randn(2, 3, 4), 1.0)
    x, seen = torch.randn(2, 3, 4), torch.rand(2, 3, 4) > 0.5
    both = masked(steps(each.to_event(1)), seen, "x")
    expected = (each.log_prob(x) * (seen & THERE.unsqueeze(-1))).sum((1, 2))
    torch.testing.assert_close(both.log_prob(x.masked_fill(~seen, torch.nan)), expected)


def test_lengths_say_which_steps_are_there():
    x = torch.zeros(2, 3, 4)
    assert torch.equal(steps_there(x, torch.tensor([2, 1])), THERE)
    assert steps_there(x, None) is None
    with pytest.raises(ValueError, match=r"one for each of the 2 sequences, \(2,\), got \(2, 1\)"):
        steps_there(x, torch.tensor([[2], [1]]))
    with pytest.raises(ValueError, match="between 0 and the 3 steps of x, got values from 2 to 4"):
        steps_there(x, torch.tensor([2, 4]))
    with pytest.raises(ValueError, match=r"x must be sequences of one step or more, .* got \(2,\)"):
        steps_there(torch.zeros(2), None)
