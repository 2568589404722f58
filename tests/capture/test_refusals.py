"""What cannot be captured says so, by site or line, and leaves everything as it was."""

from __future__ import annotations

import copy
import functools
import warnings

import numpy as np
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


UNSEEN = {
    "nested": (lambda x: torch.nested.nested_tensor([x[:2], x[2:]]).unbind()[0], "nested tensors"),
    "jagged": (
        lambda x: torch.nested.as_nested_tensor([x[:2], x[2:]], layout=torch.jagged).values(),
        "nested tensors",
    ),
    "list": (lambda x: torch.tensor([x.sum(), 1.0]), r"use torch\.stack"),
    "list by name": (lambda x: torch.as_tensor(data=[[x.sum()], [1.0]]), r"use torch\.stack"),
    "list of its type": (lambda x: x.new_tensor((x.sum(), 1.0)), r"use torch\.stack"),
    "NumPy by DLPack": (lambda x: torch.from_numpy(np.from_dlpack(x) + 1), "values of a tensor"),
}


class Scaled(nn.Module):
    def __init__(self, program, scale):
        super().__init__()
        self.program, self.scale = program, scale

    def forward(self, x):
        return self.program(x * self.scale(x).sum())


@pytest.mark.parametrize("name", UNSEEN)
def test_what_takes_values_or_shapes_without_an_operation_is_named(name):
    make, reason = UNSEEN[name]
    pair = vae()
    pair.guide = Scaled(pair.guide, make)
    with pytest.raises(CaptureError, match=rf"test_refusals\.py:\d+, .*{reason}"):
        captured_step(pair, estimators.ELBO(), adam(pair))(images())


def test_a_sparse_gradient_is_named():
    pair = vae()
    pair.table = nn.Embedding(8, 1, sparse=True)
    pair.guide = Scaled(pair.guide, lambda x: 1 + pair.table(torch.arange(3)))
    with pytest.raises(CaptureError, match=r"shape \(8, 1\) is sparse.*sparse=False"):
        captured_step(pair, estimators.ELBO(), torch.optim.SparseAdam(pair.parameters()))(images())


def test_dlpack_within_torch_and_lists_of_numbers_are_followed():
    pair, x = vae(), images()
    numbers = torch.tensor(2.0)
    pair.guide = Scaled(pair.guide, lambda x: torch.tensor([torch.from_dlpack(numbers), 1.0]))
    with pytest.raises(CaptureError, match=r"use torch\.stack"):
        captured_step(pair, estimators.ELBO(), adam(pair))(x)
    pair.guide.scale = lambda x: torch.from_dlpack(x) * torch.tensor([torch.tensor(2.0), 1.0]).sum()
    assert captured_step(pair, estimators.ELBO(), adam(pair))(x).isfinite()
