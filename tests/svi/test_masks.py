"""Masks that a program makes of Python's values have one shape of results; others are values."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import nn

import ppl_vae as pv
from ppl_vae.capture import CaptureError
from tests.svi.changing import as_pyros

DATA = torch.linspace(-3, 3, 24, dtype=torch.float64).sin().reshape(8, 3)
BUFFER = nn.Module()
BUFFER.register_buffer("mask", torch.tensor([True, False, True]))


def correlations(x):
    factor = pyro.sample("factor", dist.LKJCholesky(3, x.new_tensor(2.0)))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.MultivariateNormal(x.new_zeros(3), scale_tril=factor), obs=x)


def by_mask(mask):
    def model(x):
        scale = pyro.param("scale", x.new_ones(3), constraint=dist.constraints.positive)
        loc = pyro.sample("loc", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
        kept, given = mask(x), x.clone()
        given[:, kept] = 0.5 * loc[kept]
        given[..., kept] += scale[kept] * x[:, kept] ** 2
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(given, scale).to_event(1), obs=x)

    return model


def losses(model, captured):
    pyro.clear_param_store()
    torch.manual_seed(0)
    arguments = model, AutoNormal(model), pyro.optim.Adam({"lr": 0.05}), Trace_ELBO()
    svi = as_pyros(pv.SVI(*arguments, capture=True)) if captured else pyro.infer.SVI(*arguments)
    return [svi.step(DATA) for _ in range(6)]


CONSTANT = {
    "LKJ": correlations,
    "counted": by_mask(lambda x: torch.arange(3) != 1),
    "listed": by_mask(lambda x: torch.tensor([False, True, True])),
    "none": by_mask(lambda x: torch.zeros(3, dtype=torch.bool)),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_a_mask_of_pythons_values(name, double):
    assert losses(CONSTANT[name], True) == pytest.approx(losses(CONSTANT[name], False), rel=1e-10)


@pytest.mark.parametrize("mask", [lambda x: x[0] > 0, lambda x: BUFFER.mask], ids=["of data", "a buffer"])
def test_a_mask_that_may_change_is_refused(mask, double):
    with pytest.raises(CaptureError, match="the shape of a result depends on the values"):
        losses(by_mask(mask), True)


def test_a_mask_that_is_filled_with_values_is_refused(double):
    def filled(x):
        mask = torch.zeros(3, dtype=torch.bool)
        mask.copy_(x[0] > 0)
        return mask

    with pytest.raises(CaptureError, match="the shape of a result depends on the values"):
        losses(by_mask(filled), True)


def put(x):
    scale = pyro.param("scale", x.new_ones(3), constraint=dist.constraints.positive)
    given, far = (scale * x).sin(), (scale * x) > 0.5
    given[far] = x[far]
    given[~far] = (2 * given)[~far]
    return given


def exchanged(x):
    scale = pyro.param("scale", x.new_ones(3), constraint=dist.constraints.positive)
    one, two = scale * x, (scale - x) ** 2
    mask = one > 0
    kept = one[mask]
    one[mask] = two[mask]
    two[mask] = kept
    return one - 0.3 * two


def moved_by(change):
    def model(x):
        loc = pyro.sample("loc", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(change(x) + loc, 1.0).to_event(1), obs=x)

    return model


def splines(x):
    flow = FLOWS.setdefault("flow", pyro.distributions.transforms.spline(3, count_bins=4).double())
    pyro.module("flow", flow)
    base = dist.Normal(x.new_zeros(3), 1.0).to_event(1)
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.TransformedDistribution(base, [flow]), obs=x)


FLOWS = {}
PUT = {"put": moved_by(put), "exchanged": moved_by(exchanged), "splines": splines}


@pytest.mark.parametrize("name", PUT)
def test_what_a_mask_of_data_takes_may_be_put_where_the_mask_says(name, double):
    found = []
    for captured in (False, True):
        torch.manual_seed(1)
        FLOWS.clear()
        pyro.clear_param_store()
        model = PUT[name]
        guide = AutoNormal(pyro.poutine.block(model, hide=["x"])) if name != "splines" else lambda x: None
        arguments = model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO()
        svi = as_pyros(pv.SVI(*arguments, capture=True)) if captured else pyro.infer.SVI(*arguments)
        torch.manual_seed(0)
        found.append([svi.step(DATA * (1 + step)) for step in range(6)])  # the masks change
    assert found[1] == pytest.approx(found[0], rel=1e-10)
    assert svi.graphs == 1


def test_a_mask_that_puts_elsewhere_than_another_takes_is_an_error(double):
    def model(x, sign):
        loc, given = pyro.sample("loc", dist.Normal(x.new_zeros(3), 1.0).to_event(1)), x.clone()
        given[sign * x > 0] = (2 * x)[x > 0]
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(given + loc, 1.0).to_event(1), obs=x)

    x, one = torch.cat([DATA, -DATA]), torch.tensor(1.0)
    arguments = model, AutoNormal(model), pyro.optim.Adam({"lr": 0.05}), Trace_ELBO()
    svi = as_pyros(pv.SVI(*arguments, capture=True))
    for _ in range(3):
        svi.step(x, one)
    with pytest.raises(RuntimeError, match="a mask takes other places than another puts"):
        svi.step(x, -one)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[x > 0].sum(),
        lambda x: x * len(x[x > 0]),
        lambda x: x * x[x > 0].shape[0],
        lambda x: x * x[x > 0].numel(),
    ],
    ids=["a sum", "len", "shape", "numel"],
)
def test_another_use_of_what_a_mask_takes_is_refused(change, double):
    with pytest.raises(CaptureError, match=r"test_masks\.py.*depends on the values.*torch\.where"):
        losses(moved_by(change), True)
