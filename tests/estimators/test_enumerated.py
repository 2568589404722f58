"""EnumeratedELBO: finite sites summed over, against sums written out by hand and against Pyro's."""

from __future__ import annotations

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators
from ppl_vae.core.sites import PairError
from ppl_vae.estimators.enumerated import EnumeratedELBO, finite_sites
from ppl_vae.testing import check_estimator

SIZE = 4


class Model(nn.Module):
    """Two finite latents, the second hanging on the first, under one Gaussian observation."""

    def __init__(self, data_size=SIZE, scale=1.0):
        super().__init__()
        self.data_size, self.scale = data_size, scale
        self.logits = nn.Parameter(torch.randn(3))
        self.table = nn.Parameter(torch.randn(3))
        self.loc = nn.Parameter(torch.randn(3, 2))

    def forward(self, x):
        index = torch.arange(len(x))
        with pyro.plate("data", self.data_size, subsample=index, dim=-1), poutine.scale(scale=self.scale):
            a = pyro.sample("a", dist.Categorical(logits=self.logits))
            b = pyro.sample("b", dist.Bernoulli(logits=self.table[a]))
            pyro.sample("x", dist.Normal(self.loc[a, b.long()], 1.0), obs=x)


class Guide(nn.Module):
    def __init__(self, data_size=SIZE, scale=1.0):
        super().__init__()
        self.data_size, self.scale = data_size, scale
        self.slope = nn.Parameter(torch.randn(3))
        self.table = nn.Parameter(torch.randn(3))
        self.register_buffer("offset", torch.zeros(3))

    def forward(self, x):
        index = torch.arange(len(x))
        with pyro.plate("data", self.data_size, subsample=index, dim=-1), poutine.scale(scale=self.scale):
            a = pyro.sample("a", dist.Categorical(logits=x.unsqueeze(-1) * self.slope + self.offset))
            pyro.sample("b", dist.Bernoulli(logits=self.table[a]))


def by_hand(model, guide, x):
    """The evidence lower bound of each datum, (B,), by loops over both sites."""
    log_q_a = (x.unsqueeze(-1) * guide.slope + guide.offset).log_softmax(-1)
    log_p_a = model.logits.log_softmax(-1)
    total = torch.zeros_like(x)
    for a, b in itertools.product(range(3), range(2)):
        sign = 2 * b - 1
        log_q = log_q_a[:, a] + nn.functional.logsigmoid(sign * guide.table[a])
        log_p = log_p_a[a] + nn.functional.logsigmoid(sign * model.table[a])
        log_p = log_p + torch.distributions.Normal(model.loc[a, b], 1.0).log_prob(x)
        total = total + log_q.exp() * (log_p - log_q)
    return total


def make(**options):
    return pv.Pair(Model(**options), Guide(**options)), torch.randn(SIZE)


@pytest.mark.parametrize("num_particles", [1, 3])
def test_two_sites_are_summed_over_together(double, num_particles):
    pair, x = make()
    expected = by_hand(pair.model, pair.guide, x)
    estimator = EnumeratedELBO(num_particles)
    particles = estimator.draw(pair.model, pair.guide, x)
    assert particles.num_particles == num_particles
    torch.testing.assert_close(estimator.bound(particles), expected)
    assert particles.score is None
    loss = estimator.total(particles)
    torch.testing.assert_close(loss, -expected.sum())
    for ours, hand in zip(
        torch.autograd.grad(loss, list(pair.parameters())),
        torch.autograd.grad(-expected.sum(), list(pair.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(ours, hand)


def test_it_equals_pyros_on_marked_sites_under_subsampling(double):
    pair, x = make(data_size=40)
    theirs = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(
        pair.model, config_enumerate(pair.guide), x
    )
    ours = EnumeratedELBO().differentiable_loss(pair.model, pair.guide, x)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(ours, -10 * by_hand(pair.model, pair.guide, x).sum())


def test_a_users_scale_multiplies_the_terms_and_not_the_weights(double):
    pair, x = make(scale=0.3)
    ours = EnumeratedELBO().bound(EnumeratedELBO().draw(pair.model, pair.guide, x))
    torch.testing.assert_close(ours, 0.3 * by_hand(pair.model, pair.guide, x))


def test_a_value_of_probability_zero_adds_nothing(double):
    pair, x = make()
    with torch.no_grad():
        pair.guide.offset[0] = -torch.inf
    particles = EnumeratedELBO().draw(pair.model, pair.guide, x)
    assert bool(particles.log_weight.isfinite().all())
    with torch.no_grad():
        pair.guide.offset[0] = -1e4
    torch.testing.assert_close(particles.log_weight[0], by_hand(pair.model, pair.guide, x))


def test_without_finite_sites_it_is_the_elbo(double):
    from tests.oracle import make_pair

    pair, x = make_pair(perturb=0.3), torch.randn(SIZE, 5)
    for ours, plain in (
        (EnumeratedELBO(3), estimators.ELBO(3)),
        (EnumeratedELBO(3, closed_form=True), estimators.MeanFieldELBO(3)),
    ):
        losses = []
        for estimator in (ours, plain):
            torch.manual_seed(0)
            losses.append(estimator.differentiable_loss(pair.model, pair.guide, x))
        torch.testing.assert_close(losses[0], losses[1])


def test_it_keeps_the_contract_of_estimators():
    report = check_estimator(EnumeratedELBO(2), larger=EnumeratedELBO(4), repeats=100)
    assert report.estimator == "EnumeratedELBO(num_particles=2, closed_form=False)"


def test_what_it_cannot_sum_over_is_refused_by_name():
    class Counts(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("n", dist.Poisson(x.new_ones(()) + self.rate))

        rate = 1.0

    x = torch.zeros(SIZE)
    with pytest.raises(PairError, match=r"\['n'\] of the guide are neither that"):
        EnumeratedELBO().draw(Counts(), Counts(), x)


def test_the_sites_are_found_without_using_up_random_numbers():
    pair, x = make()
    state = torch.random.get_rng_state()
    assert finite_sites(pair.guide, (x,), {}) == {"a": 3, "b": 2}
    assert torch.equal(torch.random.get_rng_state(), state)
