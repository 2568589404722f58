"""What cannot be captured says so, by site or line, and leaves everything as it was."""

from __future__ import annotations

import copy
import functools
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceGraph_ELBO
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators, kl
from ppl_vae.capture import CaptureError
from ppl_vae.kl import KLPlan
from ppl_vae.train.not_finite import NotFinite
from ppl_vae.train.step import Step
from tests.capture.helpers import (
    adam,
    captured_step,
    difference_of,
    images,
    vae,
)


class VonMisesGuide(nn.Module):
    """Angles: their sampler rejects in a Python loop."""

    def __init__(self):
        super().__init__()
        self.concentration = nn.Parameter(torch.ones(()))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("angle", dist.VonMises(x, self.concentration.exp()))


class AngleModel(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            angle = pyro.sample("angle", dist.VonMises(torch.zeros(()), torch.ones(())))
            return pyro.sample("x", dist.Normal(angle, 1.0), obs=x)


def test_a_rejection_sampler_falls_back_once_and_names_its_site():
    pair, x = pv.Pair(AngleModel(), VonMisesGuide()), torch.linspace(-1, 1, 5)
    estimator = estimators.VIMCO(2)
    step = Step(pair, estimator, adam(pair), capture="auto")
    with pytest.warns(UserWarning, match=r'cannot be captured: .*pyro\.sample\("angle"') as caught:
        step(x)
    assert len(caught) == 1
    assert "values of a tensor" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(x)
    assert step.captured is None
    assert step.pop_means()["bound"] < 0
    with pytest.raises(CaptureError, match="angle"):
        Step(pair, estimator, adam(pair), capture=True)(x)


class Branching(nn.Module):
    def __init__(self, program, loose=False):
        super().__init__()
        self.program, self.hidden = program, [torch.ones(())] if loose else []

    def forward(self, x):
        if self.hidden:
            return self.program(x * self.hidden[0])
        if x.mean() > 100:
            raise AssertionError
        return self.program(x)


def test_control_flow_on_values_names_its_line():
    pair = vae()
    pair.model = Branching(pair.model)
    before = copy.deepcopy(pair.state_dict())
    with pytest.raises(
        CaptureError, match=r"test_refusals\.py:\d+, `if x\.mean\(\) > 100:`: the program looks"
    ):
        captured_step(pair, estimators.ELBO(), adam(pair))(images())
    assert difference_of(before, pair.state_dict()) == 0


def test_a_tensor_in_hiding_is_found_and_not_baked_in():
    pair, x = vae(torch.float64), images(dtype=torch.float64)
    pair.guide = Branching(pair.guide, loose=True)
    step = captured_step(pair, estimators.ELBO(), torch.optim.SGD(pair.parameters(), lr=0.0))
    losses = []
    for value in (1.0, 3.0):
        pair.guide.hidden[0].fill_(value)
        torch.manual_seed(3)
        losses.append(step(x).item())
        torch.manual_seed(3)
        assert Step(pair, estimators.ELBO(), adam(pair))(x).item() == pytest.approx(losses[-1], rel=1e-10)
        pair.load_state_dict(vae(torch.float64).state_dict(), strict=False)
    assert losses[0] != losses[1]
    assert len(step._graphs) == 1


@pytest.mark.parametrize(
    ("estimator", "make", "reason"),
    [
        (estimators.SUMO(), adam, "random number of particles"),
        (TraceGraph_ELBO(), adam, "TraceGraph_ELBO has no differentiable loss"),
        (estimators.ELBO(), functools.partial(adam, differentiable=True), "Adam with differentiable"),
    ],
    ids=["SUMO", "TraceGraph", "differentiable"],
)
def test_what_has_no_captured_form_says_so(estimator, make, reason):
    pair = vae()
    with pytest.raises(CaptureError, match=reason):
        captured_step(pair, estimator, make(pair))(images())


def test_a_penalty_that_learns_is_refused():
    pair, x = vae(), images()
    schedule = KLPlan(kl.FactorVAE(gamma=1.0), ("z",), 1)
    schedule.make_penalties(estimators.ELBO().draw(pair.model, pair.guide, x), len(x))
    with pytest.raises(CaptureError, match="FactorVAEPenalty of site 'z'"):
        captured_step(pair, estimators.ELBO(), adam(pair), penalties=schedule.penalties)


def test_a_loss_that_is_not_finite_moves_nothing():
    pair, x = vae(), images()
    step = Step(pair, estimators.ELBO(), adam(pair), capture=True)
    step.captured.backend = "graph"
    step(x)
    before = copy.deepcopy(pair.state_dict())
    with pytest.raises(NotFinite):
        step(x * float("nan"))
    assert difference_of(before, pair.state_dict()) == 0
    assert step.pop_means()["bound"] > -100


def test_errors_of_the_pair_stay_what_they_are():
    pair = vae()
    pair.guide.encoder.trunk = nn.Flatten(-3)
    with pytest.raises(ValueError, match="features"):
        captured_step(pair, estimators.ELBO(), adam(pair))(images())
