"""KLPlan: treatments by site, and which estimators have a place for them."""

from __future__ import annotations

import copy

import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO
from torch import nn

from ppl_vae import estimators
from ppl_vae.kl import (
    DIP,
    MMD,
    Beta,
    Capacity,
    FactorVAE,
    FreeBits,
    KLPlan,
    LinearWarmup,
    TotalCorrelation,
)
from tests.kl.programs import particles


def test_a_number_is_a_constant_weight_for_every_site():
    schedule = KLPlan(0.5, ("a", "b"), epochs=1)
    assert schedule.at(0.7) == {"a": 0.5, "b": 0.5}
    assert schedule.changes_anything


def test_sites_left_out_keep_their_weight():
    assert KLPlan({"a": Beta(3.0)}, ("a", "b"), epochs=1).at(0.0) == {"a": 3.0}
    assert not KLPlan({"a": 1.0}, ("a", "b"), epochs=1).changes_anything


def test_an_unknown_site_is_refused():
    with pytest.raises(ValueError, match=r"kl names \['y'\], but the pair's latent sites are \['z'\]"):
        KLPlan({"y": 2.0}, ("z",), epochs=1)


def test_a_warm_up_that_outlasts_the_training_is_warned_of():
    with pytest.warns(UserWarning, match="before the KL warm-up does"):
        KLPlan(LinearWarmup(100), ("z",), epochs=10)
    with pytest.warns(UserWarning, match=r"training ends after 2 epochs.*\{'z': 3.0\}"):
        KLPlan(Capacity(5.0, steps=30), ("z",), epochs=2, steps_per_epoch=10)


class Upper(estimators.ELBO):
    facts = estimators.Facts("upper")


WEIGHTED = [Beta(0.5), LinearWarmup(1), FreeBits(0.1), Capacity(1.0, epochs=1), MMD(2.0, alpha=0.5)]
ADDED = [TotalCorrelation(4.0), FactorVAE(4.0), DIP(), MMD(2.0)]


@pytest.mark.parametrize("treatment", WEIGHTED, ids=lambda t: type(t).__name__)
def test_what_changes_the_weight_needs_a_kl_term(treatment):
    schedule = KLPlan(treatment, ("z",), epochs=1)
    for estimator in (estimators.ELBO(3), estimators.MeanFieldELBO(), estimators.ScoreFunction(2)):
        schedule.check(estimator)
    for estimator in (estimators.IWAE(5), estimators.DReG(), RenyiELBO(num_particles=2), Trace_ELBO()):
        with pytest.raises(
            ValueError, match=r"site 'z': \w+ has no KL term to weigh apart.*estimators\.ELBO"
        ):
            schedule.check(estimator)


@pytest.mark.parametrize("treatment", ADDED, ids=lambda t: type(t).__name__)
def test_what_is_only_added_needs_a_bound_that_is_followed(treatment):
    schedule = KLPlan(treatment, ("z",), epochs=1)
    for estimator in (estimators.ELBO(), estimators.IWAE(5), estimators.MIWAE(2, 2)):
        schedule.check(estimator)
    for estimator, reason in {
        Trace_ELBO(): "is Pyro's, and gives no particles",
        estimators.STL(): "cuts the draws from the guide",
        Upper(): "is an upper bound",
        estimators.NVIL(nn.Linear(1, 1), normalise=True): "trains the guide on another objective",
    }.items():
        with pytest.raises(ValueError, match=rf"site 'z': \w+ {reason}.*Use estimators\.ELBO"):
            schedule.check(estimator)


def test_a_penalty_is_refused_where_the_draws_are_cut_even_with_a_kl_term():
    with pytest.raises(ValueError, match="STL cuts the draws from the guide"):
        KLPlan(FreeBits(0.1), ("z",), epochs=1).check(estimators.STL())


def test_a_weight_of_one_is_nothing():
    for estimator in (estimators.IWAE(5), Trace_ELBO()):
        KLPlan({"z": 1.0, "y": Beta()}, ("y", "z"), epochs=1).check(estimator)


def test_state_goes_to_another_schedule_and_back():
    example = particles(torch.rand(6, 4) + 0.5)
    first, second = (KLPlan(FactorVAE(1.0, hidden=(8,)), ("z",), epochs=1) for _ in range(2))
    for schedule in (first, second):
        schedule.make_penalties(example, data_size=6)
    for _ in range(3):
        first.penalties["z"](example)
        first.penalties["z"].learn()
    assert not torch.equal(first.penalties["z"](example), second.penalties["z"](example))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for schedule in (first, second):
        torch.manual_seed(3)
        schedule.penalties["z"](example)
        schedule.penalties["z"].learn()
    assert torch.equal(first.penalties["z"](example), second.penalties["z"](example))
