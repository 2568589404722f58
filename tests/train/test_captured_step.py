"""The captured step has the mathematics of the eager one, for every estimator, pair and optimizer."""

from __future__ import annotations

import copy
import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms
from pyro.infer import Trace_ELBO
from pyro.optim.adagrad_rmsprop import AdagradRMSProp
from torch import nn

import ppl_vae as pv
from ppl_vae import data, estimators
from ppl_vae.train.step import Step
from tests.capture.helpers import (
    EVERY_ESTIMATOR,
    PAIRS,
    STEPS,
    adam,
    assert_same_steps,
    captured_step,
    difference,
    estimator_name,
    images,
    inputs,
    needs_compiler,
    sgd,
    vae,
)
from tests.programs import (
    BernoulliGuide,
    BernoulliModel,
    ChainGuide,
    ChainModel,
    GlobalMeanGuide,
    GlobalMeanModel,
)


@pytest.mark.parametrize("estimator", EVERY_ESTIMATOR, ids=estimator_name)
def test_estimators_equal_the_eager_step(estimator):
    x = images(dtype=torch.float64)
    assert_same_steps(vae(torch.float64), estimator, [(x,), (1 - x,)])


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_equal_the_eager_step(name):
    assert_same_steps(PAIRS[name](torch.float64), estimators.IWAE(2), [(inputs(name),)], sgd)


@pytest.mark.grid
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("estimator", EVERY_ESTIMATOR, ids=estimator_name)
def test_the_whole_grid_equals_the_eager_step(name, estimator):
    pair, x = PAIRS[name](torch.float64), inputs(name)
    assert_same_steps(pair, estimator, [(x,)], sgd)


@pytest.mark.parametrize(
    "dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.grid)], ids=str
)
@pytest.mark.parametrize(
    "make",
    [
        functools.partial(adam, fused=True),
        functools.partial(adam, weight_decay=0.1, fused=True),
        lambda pair: torch.optim.AdamW(pair.parameters(), lr=3e-3, weight_decay=0.1),
        lambda pair: torch.optim.Adamax(pair.parameters(), lr=3e-3, weight_decay=0.1),
        lambda pair: torch.optim.SGD(pair.parameters(), lr=3e-3, momentum=0.9, nesterov=True),
        functools.partial(adam, amsgrad=True, maximize=True),
        lambda pair: torch.optim.Adagrad(pair.parameters(), lr=3e-2, lr_decay=0.1, weight_decay=0.1),
        lambda pair: torch.optim.RMSprop(pair.parameters(), lr=3e-3, weight_decay=0.1),
        lambda pair: torch.optim.RMSprop(pair.parameters(), lr=3e-3, centered=True, momentum=0.9),
        lambda pair: AdagradRMSProp(pair.parameters(), eta=0.1),
        lambda pair: torch.optim.NAdam(pair.parameters()),
        lambda pair: torch.optim.SGD(pair.parameters(), lr=0.1, momentum=0.9, dampening=0.1),
    ],
    ids=[
        *["adam", "adam with decay", "adamw", "adamax", "sgd", "amsgrad", "adagrad", "rmsprop"],
        *["centred rmsprop", "adagrad rmsprop", "nadam", "dampening"],
    ],
)
def test_optimizers_equal_torchs(make, dtype):
    x = images(dtype=dtype)
    assert_same_steps(vae(dtype), estimators.ELBO(), [(x,)], make, clip_norm=0.5)


@pytest.mark.parametrize(
    "make", [adam, functools.partial(adam, fused=True), sgd], ids=["adam", "fused", "sgd"]
)
def test_parameters_that_do_not_fill_their_memory(make):
    """As torch's fused steps take it for granted that they do."""
    first, second, x = vae(torch.float64), vae(torch.float64), images(dtype=torch.float64)
    turned, gaps, *_ = (each for each in first.modules() if isinstance(each, nn.Linear))
    turned.weight = nn.Parameter(turned.weight.data.t().contiguous().t())
    wide = torch.cat([gaps.weight.data, gaps.weight.data], 1)
    gaps.weight = nn.Parameter(wide[:, : wide.shape[1] // 2])
    assert {turned.weight.is_contiguous(), gaps.weight.is_contiguous()} == {False}
    for pair in (first, second):
        step = captured_step(pair, estimators.ELBO(), make(pair))
        torch.manual_seed(3)
        for _ in range(STEPS):
            step(x)
    assert difference(first, second) < 1e-10


@needs_compiler
@pytest.mark.slow
def test_compiled_steps_equal_the_eager_step():
    pair, x = vae(torch.float64, dropout=0.2), images(dtype=torch.float64)
    assert_same_steps(pair, estimators.IWAE(3), [(x,)], backend="inductor", clip_norm=1.0)


def test_discrete_latents_and_their_moving_average():
    pair = pv.Pair(BernoulliModel(), BernoulliGuide())
    estimator = estimators.ScoreFunction(2)
    assert_same_steps(pair, estimator, [(torch.linspace(-1, 1, 6),)])


def test_hierarchies_masks_and_inner_plates():
    x, mask = torch.randn(6, 2), torch.tensor([[True, False]]).expand(6, 2).contiguous()
    assert_same_steps(pv.Pair(ChainModel(0.5), ChainGuide(0.5)), estimators.IWAE(2), [(x, mask)])


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_batch_is_made_inside(dynamic):
    pair = vae()
    other = copy.deepcopy(pair)
    split = data.Split.from_tensor((images(30) * 255).to(torch.uint8))
    split = data.Split(split.rows, divisor=255.0, dynamic=dynamic)
    eager, captured = (
        Step(pair, estimators.ELBO(), adam(pair)),
        captured_step(other, estimators.ELBO(), adam(other)),
    )
    index = torch.randperm(30).split(10)
    torch.manual_seed(3)
    first = [eager.on(split, rows).item() for rows in index]
    torch.manual_seed(3)
    assert [captured.on(split, rows).item() for rows in index] == pytest.approx(first, rel=1e-5)


class PositiveGuide(nn.Module):
    """Positive latents without a closed-form sampler: gamma draws have implicit gradients."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x):
        rate, scale = self.linear(x).exp().chunk(2, -1)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Gamma(1 + rate, scale).to_event(1))


class FlowGuide(nn.Module):
    """A normal moved by a flow."""

    def __init__(self, flow):
        super().__init__()
        self.linear, self.flow = nn.Linear(3, 4), flow

    def forward(self, x):
        loc, log_scale = self.linear(x).chunk(2, -1)
        base = dist.Normal(loc, log_scale.exp()).to_event(1)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.TransformedDistribution(base, [self.flow]))


class LinearModel(nn.Module):
    def __init__(self, prior):
        super().__init__()
        self.linear, self.prior = nn.Linear(2, 3), prior

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", self.prior(x.new_ones(2), x.new_ones(2)).to_event(1))
            return pyro.sample("x", dist.Normal(self.linear(z), 1.0).to_event(1), obs=x)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kind", ["gamma", "autoregressive"])
@pytest.mark.parametrize("estimator", [estimators.IWAE(2), Trace_ELBO()], ids=estimator_name)
def test_flows_and_implicit_gradients(kind, estimator):
    if kind == "gamma":
        pair = pv.Pair(LinearModel(dist.Gamma), PositiveGuide())
    else:
        pair = pv.Pair(
            LinearModel(dist.Normal), FlowGuide(transforms.affine_autoregressive(2, hidden_dims=(8,)))
        )
    assert_same_steps(pair, estimator, [(torch.randn(8, 3),)], sgd)


def test_pyros_splines_pick_by_value():
    pair = pv.Pair(LinearModel(dist.Normal), FlowGuide(transforms.spline_coupling(2, hidden_dims=(8,))))
    assert_same_steps(pair, estimators.ELBO(), [(torch.randn(8, 3),)], sgd)


@pytest.mark.parametrize("estimator", [estimators.ELBO(2), Trace_ELBO()], ids=estimator_name)
def test_global_latents_and_subsampling(estimator):
    pair = pv.Pair(GlobalMeanModel(50), GlobalMeanGuide(50))
    assert_same_steps(pair, estimator, [(torch.randn(8), torch.arange(8))])


def test_what_an_estimator_learns():
    pair, x = pv.Pair(BernoulliModel(), BernoulliGuide()), torch.linspace(-1, 1, 6)
    runs, learned = [], []
    for capture in (False, True):
        torch.manual_seed(0)
        program = copy.deepcopy(pair)
        estimator = estimators.NVIL(nn.Sequential(nn.Unflatten(0, (-1, 1)), nn.Linear(1, 1)), normalise=True)
        optimizer = torch.optim.Adam([*program.parameters(), *estimator.auxiliary.parameters()], lr=1e-2)
        step = Step(program, estimator, optimizer, clip_norm=0.5, capture=capture)
        if capture:
            step.captured.backend, step.captured.same_noise = "graph", True
        torch.manual_seed(5)
        with pyro.validation_enabled(False):
            runs.append([step(x).item() for _ in range(STEPS)])
        learned.append(estimator.auxiliary)
    assert runs[1] == pytest.approx(runs[0], rel=1e-4)
    assert difference(*learned) < 1e-4
