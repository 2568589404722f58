"""ARM and DisARM: their draws, their variance and what they refuse."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae import Pair, PairError, estimators
from ppl_vae.estimators import ARM, DisARM
from ppl_vae.testing import oracles


def sampled(estimator, oracle, count=400):
    found = []
    for _ in range(count):
        loss = estimator.differentiable_loss(oracle.pair.model, oracle.pair.guide, *oracle.batch)
        found.append(torch.cat(torch.autograd.grad(loss, list(oracle.pair.guide.parameters()))))
    return torch.stack(found)


@pytest.mark.parametrize("num_pairs", [1, 3])
def test_draws_are_opposite_and_have_the_guides_odds(num_pairs):
    oracle = oracles.bernoulli(0.4)
    x = oracle.batch[0].repeat(20_000, 1)
    particles = ARM(num_pairs).draw(oracle.pair.model, oracle.pair.guide, x)
    z = particles.guide_trace.nodes["z"]["value"]
    assert z.shape == (2 * num_pairs, len(x), 2)
    probability = particles.guide_trace.nodes["z"]["fn"].mean
    error = (probability * (1 - probability) / (len(x) / 2)).sqrt()
    for particle in range(2 * num_pairs):
        mean = z[particle].view(-1, 2, 2).mean(0)
        assert ((mean - probability[particle, :2]).abs() < 4.5 * error[particle, :2]).all()
    first, second = z.split(num_pairs)
    product = (first - probability[:num_pairs]) * (second - probability[num_pairs:])
    assert (product.mean((0, 1)) < -0.005).all()


def test_disarm_is_arm_averaged_over_the_noise():
    """Both have the same mean (the contract checks it); DisARM's variance is lower,
    and both beat the plain one.
    """
    oracle = oracles.bernoulli(0.4)
    variances = [sampled(e, oracle).var(0).sum() for e in (DisARM(), ARM(), estimators.ELBO(2))]
    assert variances[0] < 0.8 * variances[1]
    assert variances[1] < variances[2]


def test_disarms_factor_is_the_mean_of_arms():
    """Given the two draws, 1/2 - u averages to (z - z') max(p, 1 - p) / 2."""
    uniform = torch.rand(1_000_000, dtype=torch.float64)
    for p in (0.2, 0.5, 0.85):
        probability = torch.tensor(p, dtype=torch.float64)
        first, second = uniform < p, 1 - uniform < p
        arm, disarm = ARM().factor(uniform, probability), DisARM().factor(uniform, probability)
        for one, two in ((True, False), (False, True)):
            here = (first == one) & (second == two)
            assert disarm[here].unique().numel() == 1
            error = arm[here].std() / here.sum().sqrt()
            assert abs(arm[here].mean() - disarm[here][0]) < 4.5 * error
        assert (disarm[first == second] == 0).all()


class Program(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.logits = nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            self.function(self, x)


def two_sites(model, x):
    first = pyro.sample("first", dist.Bernoulli(logits=x.new_tensor(0.2)))
    second = pyro.sample("second", dist.Bernoulli(logits=x.new_tensor(-0.1)))
    pyro.sample("x", dist.Normal(first + model.logits[0] * second, 1.0), obs=x)


def independent(guide, x):
    pyro.sample("first", dist.Bernoulli(logits=guide.logits[0] * x))
    pyro.sample("second", dist.Bernoulli(logits=guide.logits[1] + x))


def dependent(guide, x):
    first = pyro.sample("first", dist.Bernoulli(logits=guide.logits[0] * x))
    pyro.sample("second", dist.Bernoulli(logits=guide.logits[1] + x * first))


def exact(pair, x):
    total = 0.0
    for first in (0.0, 1.0):
        for second in (0.0, 1.0):
            one, two = torch.tensor(first), torch.tensor(second)
            log_q = dist.Bernoulli(logits=pair.guide.logits[0] * x).log_prob(one)
            log_q = log_q + dist.Bernoulli(logits=pair.guide.logits[1] + x).log_prob(two)
            log_p = dist.Bernoulli(logits=torch.tensor(0.2)).log_prob(one)
            log_p = log_p + dist.Bernoulli(logits=torch.tensor(-0.1)).log_prob(two)
            log_p = log_p + dist.Normal(one + pair.model.logits[0] * two, 1.0).log_prob(x)
            total = total + log_q.exp() * (log_p - log_q)
    return total.mean()


@pytest.mark.parametrize("estimator", [ARM(2), DisARM(2)], ids=repr)
def test_several_independent_sites_are_unbiased(estimator):
    pair, x = Pair(Program(two_sites), Program(independent)).double(), torch.tensor([0.5, -1.0]).double()
    (wanted,) = torch.autograd.grad(exact(pair, x), pair.guide.logits)
    found = []
    for _ in range(40):
        loss = -estimator.differentiable_loss(pair.model, pair.guide, x.repeat(500)) / 1000
        found.append(torch.autograd.grad(loss, pair.guide.logits)[0])
    draws = torch.stack(found)
    error = draws.std(0) / 40**0.5
    assert ((draws.mean(0) - wanted).abs() < 6 * error).all()
    assert (wanted.abs() > 6 * error).any()


def test_sites_that_depend_on_draws_are_refused():
    pair, x = Pair(Program(two_sites), Program(dependent)), torch.linspace(-1, 1, 50)
    with pytest.raises(PairError, match=r"\['second'\] do: .*estimators.VIMCO"):
        DisARM().loss(pair.model, pair.guide, x)


def test_other_discrete_sites_are_refused():
    def model(_, x):
        z = pyro.sample("z", dist.Categorical(logits=x.new_zeros(3)))
        pyro.sample("x", dist.Normal(z.to(x), 1.0), obs=x)

    def guide(own, x):
        pyro.sample("z", dist.Categorical(logits=torch.cat([own.logits, own.logits[:1]]).expand(len(x), 3)))

    pair = Pair(Program(model), Program(guide))
    with pytest.raises(PairError, match=r"\['z'\] are neither.*estimators.VIMCO"):
        ARM().loss(pair.model, pair.guide, torch.randn(4))


@pytest.mark.parametrize("num_pairs", [0, 1.5, True])
def test_the_number_of_pairs_is_a_positive_whole_number(num_pairs):
    with pytest.raises(ValueError, match="num_pairs must be a positive whole number"):
        DisARM(num_pairs)
