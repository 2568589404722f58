"""Functions and modules that are made anew between steps: one graph for those alike, an error without end."""

from __future__ import annotations

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn

import ppl_vae as pv
from ppl_vae.capture import CaptureError
from ppl_vae.capture.numbers import REPAID, check_changing
from tests.svi.changing import DATA, Guide, as_pyros, make


class Renewed(nn.Module):
    """Makes its functions anew in each run, the same ones or others."""

    def __init__(self, scales):
        super().__init__()
        self.scales, self.hook = scales, None
        self.net = nn.Linear(2, 3, dtype=torch.float64)

    def forward(self, x):
        pyro.module("renewed", self)
        scale = next(self.scales)
        self.method, self.total = self.forward, x.sum
        self.scaled = lambda each, power=1: (scale * each) ** power
        if self.hook is not None:
            self.hook.remove()
        self.hook = self.net.register_forward_hook(lambda net, args, found: found * scale)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.scaled(self.net(z)), 1.0).to_event(1), obs=x)


@pytest.mark.parametrize("make", [lambda: 2.0, lambda: torch.full((1,), 2.0)], ids=["number", "tensor"])
def test_functions_made_anew_of_the_same_lines_and_numbers_are_the_same(make):
    losses = []
    for captured in (False, True):
        pyro.clear_param_store()
        torch.manual_seed(0)
        model = Renewed(make() for _ in itertools.count())
        arguments = model, Guide(), pyro.optim.SGD({"lr": 0.01}), Trace_ELBO()
        svi = as_pyros(pv.SVI(*arguments, capture=True)) if captured else pyro.infer.SVI(*arguments)
        losses.append([svi.step(DATA) for _ in range(8)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-10)
    assert svi.graphs == 1


def test_functions_that_are_others_at_each_step_are_refused_by_name():
    model = Renewed(itertools.count(1.0))
    svi = as_pyros(pv.SVI(model, Guide(), pyro.optim.SGD({"lr": 0.01}), Trace_ELBO(), capture=True))
    with pytest.raises(CaptureError, match=r"Renewed.scaled"):
        [svi.step(DATA) for _ in range(20)]


def test_a_value_of_the_function_around_is_seen():
    losses = []
    for captured in (False, True):
        svi = make(captured)
        scale = 1.0
        svi.model.boost = lambda x: x * scale  # noqa: B023  it is read when it is called
        losses.append([svi.step(DATA) for _ in range(4)])
        scale = 3.0
        losses[-1] += [svi.step(DATA) for _ in range(4)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-10)
    assert svi.graphs == 2


class Power(nn.Module):
    """Has an exponent that can be looked at, and another in a list."""

    def __init__(self, exponent, *more):
        super().__init__()
        self.exponent = exponent
        if more:
            self.more = list(more)

    def forward(self, x):
        return x**self.exponent * sum(getattr(self, "more", [1.0]))


def exchanged(captured, made, every=1, steps=40):
    """Losses of a training in which a part of the model is exchanged again and again; the SVI."""
    svi = make(captured)
    svi.model.activation = nn.Identity()
    losses = []
    for step in range(steps):
        if step % every == 0:
            svi.model.activation = made(step // every)
        losses.append(svi.step(DATA))
    return losses, svi


LAYERS = {
    "the same": (lambda step: nn.Tanh(), 1),
    "another type": (lambda step: nn.Tanh() if step % 2 else nn.Sigmoid(), 2),
    "another value": (lambda step: Power(2.0 + step % 3), 3),
    "parts in another order": (
        lambda step: nn.Sequential(*[nn.Tanh(), nn.Softplus()][:: 1 if step % 2 else -1]),
        2,
    ),
    "weights of its own": (lambda step: nn.LayerNorm(3, dtype=torch.float64), 1),
    "a list of numbers": (lambda step: Power(2.0, *range(1 + step % 2)), 2),
}


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_modules_made_anew_that_are_alike_have_one_graph(name, every):
    made, graphs = LAYERS[name]
    losses, _ = exchanged(False, made, every)
    found, svi = exchanged(True, made, every)
    assert found == pytest.approx(losses, rel=1e-10)
    # the weights of the first one are in Pyro's store, those of the others are not
    assert svi.graphs == graphs + (name == "weights of its own" and every > 1)


@pytest.mark.parametrize("every", [1, 3])
def test_modules_that_are_others_at_each_step_are_refused_by_name(every):
    with pytest.raises(CaptureError, match="which tensors and modules there are keeps changing"):
        exchanged(True, lambda step: Power(2.0, torch.ones(()), step), every, steps=100)


def test_what_stays_long_enough_does_not_keep_changing():
    values = [(("width", int, number),) for number in range(17)]
    check_changing(values, 16, 17 * REPAID)
    check_changing(values[:16], 16, 0)
    with pytest.raises(CaptureError, match="width keeps changing"):
        check_changing(values, 16, 17 * REPAID - 1)
