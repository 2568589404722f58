"""What programs can see: every tensor and number, where it stands, and whether it still does."""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae.capture.calls import Call, changing
from ppl_vae.capture.errors import CaptureError
from ppl_vae.capture.reach import Reach

SCALE = torch.tensor(3.0)
RATE = 2.0


class Part:
    def __init__(self):
        self.tensor, self.number = torch.zeros(2), 5

    def program(self, x):
        return helper(x) * self.tensor


def helper(x):
    return x * SCALE * RATE


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.settings = nn.Linear(2, 2), {"prior": dist.Normal(torch.zeros(2), 1.0)}
        self.register_buffer("mean", torch.zeros(()))
        self.parts = [Part(), 7.5]

    def forward(self, x):
        return self.linear(x)


def tensors(reach):
    return {id(tensor) for _, _, tensor in reach.places}


def numbers(reach):
    return {value for _, _, value in reach.numbers if isinstance(value, int | float)}


def test_functions_methods_handlers_and_objects_are_looked_through():
    part, net, inside = Part(), Net(), torch.ones(1)

    def program(x, offset=part, *, other=net):
        return [inside, x, offset, other]

    for root in (program, functools.partial(program), pyro.poutine.scale(program, torch.tensor(0.5))):
        reach = Reach([root])
        expected = [inside, part.tensor, SCALE, net.mean, *net.parameters(), net.parts[0].tensor]
        assert {id(tensor) for tensor in [*expected, net.settings["prior"].loc]} <= tensors(reach)
        assert {5, 7.5, RATE} <= numbers(reach)
    assert id(SCALE) in tensors(Reach([part.program]))
    conditioned = pyro.condition(program, {"x": SCALE})
    assert id(SCALE) in tensors(Reach([conditioned]))


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net, "mean", torch.ones(())),
        lambda net: net.linear.register_parameter("bias", None),
        lambda net: setattr(net, "linear", nn.Linear(2, 2)),
        lambda net: setattr(net.parts[0], "number", 6),
        lambda net: net.parts.append(1),
        lambda net: net.settings.pop("prior"),
        lambda net: net.eval(),
        lambda net: net.register_forward_hook(lambda *_: None),
    ],
    ids=["buffer", "parameter", "module", "number", "longer", "gone", "mode", "hook"],
)
def test_changes_are_noticed(change):
    net = Net()
    reach = Reach([net])
    assert reach.current()
    change(net)
    assert not reach.current()


def test_the_same_structure_with_another_function_is_another_kind():
    net, other = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    kinds = [Reach([each]).kinds for each in (net, nn.Sequential(nn.Linear(2, 2), nn.ReLU()), other)]
    assert kinds[0] == kinds[1] != kinds[2]
    functions = [lambda x: x + 1, lambda x: x - 1]
    assert Reach([functions[0]]).kinds != Reach([functions[1]]).kinds


def test_results_of_earlier_runs_are_no_inputs():
    net = Net()
    net.last = net(torch.ones(1, 2))
    assert id(net.last) not in tensors(Reach([net]))


def test_everything_is_put_back():
    net = Net()
    reach, before = Reach([net]), dict(vars(net))
    with reach.restored():
        net.last, net.parts[0].number = torch.zeros(1), 8
        del net._buffers["mean"]
        net.parts.append(3)
    assert reach.changed == ["number"]
    assert reach.current()
    assert vars(net) == before


def test_calls_are_taken_apart_and_put_together():
    x, y = torch.zeros(2), torch.ones(3)
    call = Call(({"a": [x, 1], "b": (y, None)}, "text"), {"flag": True})
    assert call.tensors == [x, y]
    args, kwargs = call.rebuild([y, x])
    assert args[0]["a"] == [y, 1]
    assert args[0]["b"] == (x, None)
    assert args[1:] == ["text"]
    assert kwargs == {"flag": True}
    others = [Call((1,), {}), Call((1.0,), {}), Call((True,), {}), Call((2,), {})]
    assert len({other.numbers for other in others}) == 4
    assert {other.shapes for other in others} == {others[0].shapes}
    assert changing([other.numbers for other in others]) == ["argument 0"]
    assert Call((x,), {}).shapes != Call((x.double(),), {}).shapes
    with pytest.raises(CaptureError, match=r"argument 0\[1\] is a object"):
        Call(([x, object()],), {})
