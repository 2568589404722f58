"""A tensor that becomes another object without an operation is followed; memory taken itself is refused."""

from __future__ import annotations

import copy
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn
from torch.utils import dlpack

import ppl_vae as pv
from ppl_vae.capture import CaptureError
from tests.capture.helpers import needs_compiler

BATCHES = torch.linspace(-1, 1, 12 * 5 * 3, dtype=torch.float64).sin().reshape(12, 5, 3)


class Marked(torch.Tensor):
    """A subclass that changes nothing."""


def trained(kind, change, batches=BATCHES, weight=lambda x: x):
    """Losses and weights of a training in which a program makes something of its batch."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    net = nn.Linear(3, 3, dtype=torch.float64)
    net.weight = nn.Parameter(weight(net.weight.detach()))

    def model(x):
        pyro.module("net", net)
        x = change(x)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(net(x).sin(), 1.0).to_event(1), obs=torch.zeros_like(x))

    svi = kind(model, lambda x: None, pyro.optim.SGD({"lr": 0.05}), Trace_ELBO())
    return [svi.step(x) for x in batches], [each.detach() for each in net.parameters()]


def captured(*arguments):
    svi = pv.SVI(*arguments, capture=True)
    for program in svi._captured.values():
        program.backend = "graph"
    return svi


ALIASES = {
    "parameter": nn.Parameter,
    "parameter of a result": lambda x: nn.Parameter(x * 2, requires_grad=False),
    "buffer": lambda x: nn.Buffer(x * 2),
    "parameter list": lambda x: nn.ParameterList([x])[0],
    "subclass": lambda x: x.as_subclass(Marked),
    "subclass of a result, and back": lambda x: (x * 2).as_subclass(Marked).as_subclass(torch.Tensor),
    "dlpack": lambda x: dlpack.from_dlpack(dlpack.to_dlpack(x)),
    "of a part": lambda x: nn.Parameter(x[:, 1:]).repeat(1, 2)[:, :3],
    "one of another": lambda x: nn.Parameter(nn.Parameter(x).data).sin(),
    "written to": lambda x: nn.Parameter(x * 2, requires_grad=False).mul_(3),
    "the source written to": lambda x: (y := x * 2, nn.Parameter(y), y.mul_(3))[1],
}


@pytest.mark.parametrize("name", ALIASES)
def test_another_object_in_the_same_memory_is_followed(name):
    if name == "dlpack" and torch.__version__ < "2.9":
        pytest.skip("torch 2.8's to_dlpack takes memory by its place, which is refused")
    losses, weights = trained(pyro.infer.SVI, ALIASES[name])
    found, others = trained(captured, ALIASES[name])
    assert found == pytest.approx(losses, rel=1e-10)
    torch.testing.assert_close(others, weights, rtol=1e-10, atol=0)


OUTSIDE = {
    "parameter of a buffer": lambda net, far: nn.Parameter(net.shift),
    "subclass of a buffer": lambda net, far: net.shift.as_subclass(Marked),
    "subclass of a weight": lambda net, far: net.bias.as_subclass(Marked),
    "parameter of a global": lambda net, far: nn.Parameter(far, requires_grad=False),
    "dlpack of a global": lambda net, far: dlpack.from_dlpack(dlpack.to_dlpack(far)),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_another_object_in_memory_from_outside_is_that_memory(name):
    found = []
    for kind in (pyro.infer.SVI, captured):
        pyro.clear_param_store()
        torch.manual_seed(0)
        net, far = nn.Linear(3, 3, dtype=torch.float64), torch.linspace(1, 2, 3, dtype=torch.float64)
        net.register_buffer("shift", torch.linspace(0, 2, 3, dtype=torch.float64))

        def model(x):
            pyro.module("net", net)  # noqa: B023
            with pyro.plate("data", len(x)):
                loc = net(x) + OUTSIDE[name](net, far)  # noqa: B023
                pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

        svi = kind(model, lambda x: None, pyro.optim.SGD({"lr": 0.05}), Trace_ELBO())
        losses = [svi.step(BATCHES[0]) for _ in range(4)]
        with torch.no_grad():
            net.shift.mul_(2), far.mul_(2)
        found.append(losses + [svi.step(BATCHES[0]) for _ in range(4)])
    assert [*map(float, found[1])] == pytest.approx([*map(float, found[0])], rel=1e-10)


@needs_compiler
def test_they_are_followed_when_compiled():
    def change(x):
        y = nn.Parameter(x * 2, requires_grad=False).mul_(3)
        return nn.Parameter(x.as_subclass(Marked)) + y.as_subclass(torch.Tensor)

    losses, weights = trained(pyro.infer.SVI, change)
    found, others = trained(lambda *arguments: pv.SVI(*arguments, capture=True), change)
    assert found == pytest.approx(losses, rel=1e-10)
    torch.testing.assert_close(others, weights, rtol=1e-10, atol=0)


@pytest.mark.parametrize("what", ["batch", "weight"])
def test_subclasses_outside(what):
    batches = BATCHES.as_subclass(Marked) if what == "batch" else BATCHES
    weight = (lambda x: x.as_subclass(Marked)) if what == "weight" else (lambda x: x)
    losses, weights = trained(pyro.infer.SVI, lambda x: x, batches, weight)
    found, others = trained(captured, lambda x: x, batches, weight)
    assert [*map(float, found)] == pytest.approx([*map(float, losses)], rel=1e-10)
    torch.testing.assert_close([*map(torch.Tensor.double, others)], [*map(torch.Tensor.double, weights)])


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
@pytest.mark.parametrize("kind", ["script", "trace"])
def test_torchscript_is_recorded_through(kind):
    def make(x, made=[]):  # noqa: B006  one for all steps
        if not made:
            layer = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
            made.append(torch.jit.script(layer) if kind == "script" else torch.jit.trace(layer, x))
        return made[0](x)

    torch.manual_seed(3)
    losses, weights = trained(pyro.infer.SVI, lambda x: make(x))
    found, others = trained(captured, lambda x: make(x))
    assert found == pytest.approx(losses, rel=1e-10)
    torch.testing.assert_close(others, weights, rtol=1e-10, atol=0)


MEMORY = {
    "deepcopy": lambda x: copy.deepcopy(x * 2),
    "copy": lambda x: copy.copy(x * 2),
    "pickle": lambda x: pickle.loads(pickle.dumps(x * 2)),
    "storage": lambda x: x.new_empty(0).set_((x * 2).untyped_storage(), 0, x.shape),
}


@pytest.mark.parametrize("name", MEMORY)
def test_memory_that_is_taken_itself_is_refused(name):
    with pytest.raises(CaptureError, match=r"test_other_objects.py:\d+, .*memory itself.*use clone\(\)"):
        trained(captured, MEMORY[name])


def _tries(x):
    try:
        return x + float(x.sum().item())
    except RuntimeError:
        return x


def _tries_to_read(x):
    try:
        return x + torch.as_tensor(x.sum(0).tolist())
    except RuntimeError:
        return x


def _scripted(x):
    return x + float(x.sum())


@pytest.mark.parametrize("change", [_tries, _tries_to_read], ids=["item", "tolist"])
def test_a_refusal_that_the_program_catches_is_one(change):
    with pytest.raises(CaptureError, match="looks at the values of a tensor"):
        trained(captured, change)


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_a_look_within_torchscript_is_refused():
    script = torch.jit.script(_scripted)
    with pytest.raises(CaptureError, match="looks at the values of a tensor"):
        trained(captured, script)
