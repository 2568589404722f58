"""One contract over every estimator, and the contract itself held against estimators that break it."""

from __future__ import annotations

import inspect
import math

import pyro
import pytest
import torch
from pyro.infer import SVI
from torch import nn

from ppl_vae import estimators
from ppl_vae.core.particles import log_mean_exp
from ppl_vae.estimators import Estimator, Facts
from ppl_vae.testing import check_estimator, oracles
from ppl_vae.testing.estimators import EstimatorError


def baseline():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(2, 1)


def control():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))


# the estimator, and the same with more particles where theory says that it does not fall
EVERY = [
    (estimators.ELBO(2), estimators.ELBO(4)),
    (estimators.MeanFieldELBO(2), None),
    (estimators.EnumeratedELBO(2), estimators.EnumeratedELBO(4)),
    (estimators.IWAE(3), estimators.IWAE(8)),
    (estimators.Renyi(0.5, 3), estimators.Renyi(0.5, 8)),
    (estimators.Renyi(-1.0, 3), estimators.Renyi(-1.0, 8)),
    (estimators.Renyi(-math.inf, 3), estimators.Renyi(-math.inf, 6)),
    (estimators.Renyi(math.inf, 3), None),
    (estimators.STL(), None),
    (estimators.STL(3), estimators.STL(8)),
    (estimators.DReG(3), estimators.DReG(8)),
    (estimators.DReG(3, alpha=0.5), None),
    (estimators.DReG(3, alpha=1.0), None),
    (estimators.MIWAE(2, 2), estimators.MIWAE(2, 4)),
    (estimators.PIWAE(2, 2), estimators.PIWAE(4, 2)),
    (estimators.CIWAE(0.3, 3), estimators.CIWAE(0.3, 6)),
    (estimators.ScoreFunction(2), None),
    (estimators.NVIL(baseline(), 2), None),
    (estimators.NVIL(baseline(), 2, normalise=True), None),
    (estimators.VIMCO(3), estimators.VIMCO(6)),
    (estimators.ReweightedWakeSleep(3), estimators.ReweightedWakeSleep(6)),
    (estimators.ARM(), None),
    (estimators.DisARM(2), None),
    (estimators.REBAR(), None),
    (estimators.RELAX(control(), 2), None),
    (estimators.TVO(4, 3), estimators.TVO(8, 3)),
    (estimators.TVO(4, 3, "moments"), None),
    (estimators.CUBO(2.0, 4), estimators.CUBO(2.0, 8)),
    (estimators.JVI(1, 3), None),
    (estimators.JVI(2, 4), None),
    (estimators.SUMO(2, 60), None),
]


@pytest.mark.parametrize(("estimator", "larger"), EVERY, ids=lambda e: "" if e is None else repr(e))
def test_every_estimator_keeps_the_contract(estimator, larger):
    report = check_estimator(estimator, larger=larger, repeats=250)
    assert report.estimator == repr(estimator)
    gradients = [check for check in report.checks if "unbiased" in check]
    pairs = 2 + (not estimator.facts.needs_reparameterised and estimator.fixed_size)
    assert len(gradients) == pairs * (estimator.facts.unbiased_model + estimator.facts.unbiased_guide)


def test_every_estimator_is_in_the_contract():
    public = [getattr(estimators, name) for name in estimators.__all__]
    classes = {thing for thing in public if inspect.isclass(thing)} - {Estimator, Facts}
    assert {type(estimator) for estimator, _ in EVERY} == classes


class HarmonicMean(Estimator):
    """An estimator added by a user: what CONTRIBUTING shows."""

    facts = Facts("neither")

    def bound(self, particles):
        return -log_mean_exp(-particles.log_weight)


def test_a_new_estimator_costs_a_few_lines():
    lines = [line for line in inspect.getsource(HarmonicMean).splitlines() if line.strip()]
    assert len(lines) - 1 <= 15
    assert "unbiased" in str(check_estimator(HarmonicMean(3), repeats=100))


class Broken(Estimator):
    facts = Facts("lower")

    def bound(self, particles):
        return particles.log_weight.mean(0)


def broken(name):
    return type(name.__name__, (Broken,), {"bound": name})


def half_the_kl(self, particles):
    return particles.reconstruction.mean(0) - 0.5 * particles.kl_sample(particles.latent_sites[0]).mean(0)


def the_largest_weight(self, particles):
    return particles.log_weight.max(0).values


def joint_over_data(self, particles):
    return log_mean_exp(particles.log_weight.sum(-1)).expand(particles.batch_size) / particles.batch_size


def a_scalar(self, particles):
    return particles.log_weight.mean()


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        (half_the_kl, "at the exact posterior"),
        (the_largest_weight, "claims to be a lower bound"),
        (joint_over_data, "when others leave the batch"),
        (a_scalar, r"shape \(B,\)"),
    ],
)
def test_the_contract_refuses_wrong_bounds(bound, message):
    with pytest.raises(EstimatorError, match=message):
        check_estimator(broken(bound)(8), repeats=200)


class NoScore(Broken):
    def surrogate(self, particles):
        return self.bound(particles)


class TooLong(Broken):
    def surrogate(self, particles):
        return 1.1 * self.bound(particles)


class ScaledInside(Broken):
    def bound(self, particles):
        return particles.log_weight.mean(0) + math.log(particles.scale)


class NotSTL(estimators.STL):
    def surrogate(self, particles):
        return self.bound(particles)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (NoScore(2), "unbiased gradient of the guide.*Bernoulli"),
        (TooLong(2), "unbiased gradient of the model.*linear-Gaussian"),
        (ScaledInside(2), "under subsampling"),
        (NotSTL(), "claimed to be zero"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Estimator) else "",
)
def test_the_contract_refuses_wrong_gradients_and_scales(estimator, message):
    with pytest.raises(EstimatorError, match=message):
        check_estimator(estimator, repeats=100)


def test_the_contract_refuses_a_larger_one_that_is_lower():
    with pytest.raises(EstimatorError, match="is lower"):
        check_estimator(estimators.IWAE(8), larger=estimators.IWAE(1), repeats=100)


def test_the_contract_leaves_everything_as_it_was():
    estimator = estimators.ScoreFunction()
    before = torch.get_rng_state()
    pyro.param("mine", torch.tensor(1.0))
    check_estimator(estimator, repeats=10)
    assert torch.equal(before, torch.get_rng_state())
    assert list(pyro.get_param_store()) == ["mine"]
    assert estimator.average() == 0


@pytest.mark.parametrize("make", [oracles.linear_gaussian, oracles.bernoulli, oracles.chain])
def test_the_oracles_evidence_is_right(make):
    oracle = make(0.1)
    particles = estimators.IWAE(200_000).draw(oracle.pair.model, oracle.pair.guide, *oracle.batch)
    weight = (particles.log_weight - oracle.log_evidence(*oracle.batch)).exp()
    error = weight.std(0) / math.sqrt(len(weight))
    assert ((weight.mean(0) - 1).abs() < 4.5 * error).all()
    assert (error < 0.02).all()


def test_stock_svi_trains_what_an_estimator_learns():
    oracle, net = oracles.bernoulli(0.3), baseline().double()
    estimator = estimators.NVIL(net)
    before = net.weight.detach().clone()
    SVI(*oracle.pair.pyro(), pyro.optim.Adam({"lr": 1e-2}), estimator).step(*oracle.batch)
    assert (net.weight != before).all()
