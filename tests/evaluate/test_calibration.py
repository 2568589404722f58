"""Calibration: uniform ranks for exact guides, the known law of a scaled one's, and what cannot be asked."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import Normal

from ppl_vae import Pair, PairError, evaluate
from ppl_vae.testing import oracles
from tests.conftest import SIGMAS
from tests.evaluate.programs import GlobalGuide, GlobalModel, stretched_pair

pytestmark = pytest.mark.usefixtures("double")


def known(pair, *batch):
    pair.remember(batch)
    return pair


def stretched(stretch):
    return known(stretched_pair(stretch), torch.zeros(2, 5))


def test_an_exact_guide_has_uniform_ranks():
    result = evaluate.calibration(stretched(1.0), 1000, 50)
    assert result.names == ("z[0]", "z[1]", "z[2]", "log p(x | z)")
    assert result.ranks.shape == (1000, 4)
    assert result.departs == ()
    assert result.p_value > 0.01
    assert (result.shift.abs() < SIGMAS).all()
    assert (result.spread.abs() < SIGMAS).all()


@pytest.mark.parametrize(("stretch", "verdict"), [(0.6, "too narrow"), (1.6, "too wide")])
def test_the_ranks_of_a_scaled_guide_follow_their_law(stretch, verdict):
    """Given u = Phi(Z / c), Z standard normal, a rank is Binomial(L, u)."""
    draws, size = 20, 4000
    result = evaluate.calibration(stretched(stretch), size, draws)
    quantiles = (torch.arange(20000) + 0.5) / 20000
    share = Normal(0, 1).cdf(Normal(0, 1).icdf(quantiles) / stretch)
    law = dist.Binomial(draws, share[:, None]).log_prob(torch.arange(draws + 1.0)).exp().mean(0)
    for ranks in result.ranks[:, :3].T:
        found = torch.bincount(ranks, minlength=draws + 1) / size
        assert ((found - law).abs() < SIGMAS * (law * (1 - law) / size).sqrt() + 1e-4).all()
    for name in result.names[:3]:
        assert result.verdict(name) == verdict
    assert verdict in str(result)


class Shifted(nn.Module):
    """The posterior of z ~ N(0, 1), x ~ N(z, 1), moved."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2 + self.by, 0.5**0.5))


class Plain(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class OfPrior(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))


@pytest.mark.parametrize(("by", "verdict"), [(0.0, "uniform"), (-0.3, "too low"), (0.3, "too high")])
def test_a_guide_beside_its_place(by, verdict):
    result = evaluate.calibration(known(Pair(Plain(), Shifted(by)), torch.zeros(2)), 1000, 50)
    assert result.verdict("z") == verdict


def test_a_guide_that_ignores_the_data_is_found_out_by_the_likelihood_alone():
    result = evaluate.calibration(known(Pair(Plain(), OfPrior()), torch.zeros(2)), 1000, 50)
    assert result.verdict("z") == "uniform"
    assert result.verdict("log p(x | z)") == "fit worse"


def test_ties_of_discrete_latents_are_broken_at_random():
    for perturb, uniform in ((0.0, True), (1.5, False)):
        oracle = oracles.bernoulli(perturb)
        result = evaluate.calibration(known(oracle.pair, *oracle.batch), 1500, 30)
        assert (not result.departs) == uniform


class Steps(nn.Module):
    """An inner plate, whose data stand transposed, and a scale that is an input."""

    def __init__(self, is_guide, stretch=1.0):
        super().__init__()
        self.is_guide, self.stretch = is_guide, stretch

    def forward(self, x, scale):
        with pyro.plate("data", len(x), dim=-1), pyro.plate("time", 3, dim=-2):
            if self.is_guide:
                variance = 1 / (1 + scale**-2)
                stretch = torch.tensor([1.0, 1.0, self.stretch])[:, None]
                pyro.sample("h", dist.Normal(x.T * variance / scale**2, variance.sqrt() * stretch))
            else:
                h = pyro.sample("h", dist.Normal(x.new_zeros(()), 1.0))
                pyro.sample("x", dist.Normal(h, scale), obs=x.T)


def test_inner_plates_and_inputs():
    for stretch, wrong in ((1.0, set()), (0.5, {"h[2]", "log p(x | z)"})):
        pair = Pair(Steps(False), Steps(True, stretch))
        pair.remember((torch.zeros(2, 3), torch.ones(2)))
        scale = torch.rand(600) + 0.5
        result = evaluate.calibration(pair, 600, 40, inputs={"scale": scale}, batch_size=100)
        assert result.names == ("h[0]", "h[1]", "h[2]", "log p(x | z)")
        assert set(result.departs) == wrong
    with pytest.raises(ValueError, match=r"'scale'.*so a value must be chosen"):
        evaluate.calibration(pair, 10, 5)


@pytest.mark.parametrize("stretch", [1.0, 0.5])
def test_the_programs_own_order_of_arguments(stretch):
    """One whose first is no data: what is simulated is in that order, whatever the arguments are called."""

    def model(where, seen):
        with pyro.plate("data", len(where), dim=-1):
            z = pyro.sample("z", dist.Normal(where, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=seen)

    def guide(where, seen):
        with pyro.plate("data", len(where), dim=-1):
            pyro.sample("z", dist.Normal((where + seen) / 2, stretch * math.sqrt(0.5)))

    pair = known(Pair(model, guide), torch.zeros(2), torch.zeros(2))
    result = evaluate.calibration(pair, 400, 20, inputs={"where": 3 * torch.randn(400)})
    assert result.verdict("z") == ("uniform" if stretch == 1 else "too narrow")


def test_the_result_does_not_depend_on_batches_but_through_the_draws():
    pair = stretched(1.0)
    state = torch.get_rng_state()
    first = evaluate.calibration(pair, 300, 20, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.ranks, evaluate.calibration(pair, 300, 20, seed=3).ranks)
    second = evaluate.calibration(pair, 300, 20, seed=3, batch_size=7)
    # the same simulations: of those, the draws' mean ranks agree
    difference = (first.ranks - second.ranks).double()
    assert (difference.mean(0).abs() < SIGMAS * difference.std(0) / math.sqrt(300)).all()
    assert torch.corrcoef(torch.stack([first.ranks[:, 0], second.ranks[:, 0]]).double())[0, 1] > 0.7


def test_refusals():
    pair = known(Pair(GlobalModel(), GlobalGuide()), torch.zeros(2))
    with pytest.raises(PairError, match=r"\['mean'\] outside the plate 'data'"):
        evaluate.calibration(pair, 10, 5)
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 95"):
        evaluate.calibration(stretched(1.0), 10, 5, level=95)
    with pytest.raises(ValueError, match="num_simulations"):
        evaluate.calibration(stretched(1.0), 0)
    with pytest.raises(ValueError, match="num_draws must be a positive whole number, got 0"):
        evaluate.calibration(stretched(1.0), 10, 0)
    with pytest.raises(ValueError, match="has not seen data"):
        evaluate.calibration(stretched_pair(1.0), 10)
