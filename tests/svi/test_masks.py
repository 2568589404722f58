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
