"""A captured function gives what the function as written gives, with all that changed since."""

from __future__ import annotations

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae.capture import CaptureError
from ppl_vae.capture.function import CapturedFunction, check_capture
from ppl_vae.capture.worth import can_compile
from ppl_vae.core.drawing import draw
from ppl_vae.core.isolation import eval_mode
from tests.capture.helpers import images, needs_compiler, vae


def log_weight_of(pair, **options):
    """(function as written, captured): from an image batch and K to the log-weights."""

    def function(tensors, size):
        with torch.no_grad(), pyro.validation_enabled(False):
            return [draw(pair.model, pair.guide, tuple(tensors), num_particles=size).log_weight]

    return function, CapturedFunction(function, [pair], **{"backend": "graph", "required": True} | options)


def seeded(function, *arguments):
    torch.manual_seed(11)
    return function(*arguments)[0]


def test_the_results_and_the_noise_are_those_of_the_function():
    function, captured = log_weight_of(vae(torch.float64))
    x = images(dtype=torch.float64)
    first = seeded(captured, (x,), 5)
    torch.testing.assert_close(first, seeded(function, (x,), 5), rtol=1e-10, atol=1e-10)
    again = captured((x,), 5)[0]
    assert not torch.equal(first, again), "fresh noise"
    torch.manual_seed(11)
    function((x,), 5)
    torch.testing.assert_close(again, function((x,), 5)[0], rtol=1e-10, atol=1e-10)
    assert not first.requires_grad
    assert captured.seconds > 0


def test_each_shape_and_number_has_a_graph():
    function, captured = log_weight_of(vae())
    for x, size in ((images(8), 5), (images(3), 5), (images(8), 2), (1 - images(8), 5)):
        torch.testing.assert_close(seeded(captured, (x,), size), seeded(function, (x,), size))
    assert captured.num_graphs == 3


def test_changed_weights_modes_and_tensors_are_seen():
    pair, x = vae(dropout=0.5), images()
    function, captured = log_weight_of(pair)

    def check(graphs):
        torch.testing.assert_close(seeded(captured, (x,), 3), seeded(function, (x,), 3))
        assert captured.num_graphs == graphs

    check(1)
    with torch.no_grad():
        pair.model.decoder.output_bias.add_(1)
    check(1)
    pair.load_state_dict(copy.deepcopy(pair.state_dict()))
    check(1)
    pair.model.decoder.output_bias.data = pair.model.decoder.output_bias.data - 0.5
    check(1)
    with eval_mode(pair):
        check(2)
    check(2)
    pair.model.requires_grad_(False)
    check(3)
    pair.double()
    x = x.double()
    check(4)


class Counting(nn.Module):
    """Counts its calls in a buffer, in place and by assignment."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.total = torch.zeros(())

    def forward(self, tensors):
        self.calls += 1
        self.total = self.total + tensors[0].sum()
        return [self.calls * tensors[0]]


def test_what_a_function_remembers_is_remembered_once_for_each_call():
    counting = Counting()
    captured = CapturedFunction(counting, [counting], backend="graph", required=True)
    for call in (1, 2, 3):
        torch.testing.assert_close(captured([torch.ones(2)])[0], torch.full((2,), float(call)))
    assert counting.calls == 3
    assert counting.total == 6


def test_gradients_can_be_taken_inside():
    net = nn.Linear(3, 1)

    def function(tensors):
        with torch.enable_grad():
            loss = net(tensors[0]).square().sum()
            return list(torch.autograd.grad(loss, list(net.parameters())))

    captured = CapturedFunction(function, [net], backend="graph", required=True)
    x = torch.randn(5, 3)
    for one, two in zip(captured([x]), function([x]), strict=True):
        torch.testing.assert_close(one, two)
        assert not one.requires_grad


class Angle(nn.Module):
    def forward(self, tensors):
        return [pyro.sample("angle", dist.VonMises(tensors[0], 1.0))]


def test_what_cannot_be_captured_runs_as_written_after_one_warning():
    program, x = Angle(), torch.zeros(4)
    captured = CapturedFunction(program, [program], backend="graph")
    with pytest.warns(UserWarning, match=r"cannot be captured: site 'angle' \(VonMises\)") as caught:
        first = seeded(captured, [x])
    assert len(caught) == 1
    torch.testing.assert_close(first, seeded(program, [x]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        captured([x])
    assert "angle" in captured.why_not
    with pytest.raises(CaptureError, match="angle"):
        CapturedFunction(program, [program], required=True)([x])


def test_errors_of_the_program_stay_what_they_are():
    net = nn.Linear(3, 1)
    captured = CapturedFunction(lambda tensors: [net(tensors[0])], [net], required=True)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        captured([torch.zeros(2, 4)])


def test_a_tensor_of_nobody_is_found_and_followed_in_place():
    hidden = torch.ones(())
    captured = CapturedFunction(lambda tensors: [tensors[0] * hidden], [], backend="graph", required=True)
    for value in (1.0, 4.0):
        hidden.fill_(value)
        torch.testing.assert_close(captured([torch.full((2,), 3.0)])[0], torch.full((2,), 3.0 * value))
    assert captured.num_graphs == 1


def test_choices_are_checked(monkeypatch):
    with pytest.raises(ValueError, match="capture must be True, False or 'auto', got 'always'"):
        check_capture("always")
    assert not can_compile(torch.device("mps"))
    monkeypatch.setattr("shutil.which", lambda *arguments, **options: None)
    assert not can_compile(torch.device("cpu"))


class Casts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, tensors):
        x = self.linear(tensors[0])
        with torch.autocast("cpu", enabled=False):
            y = x.float() @ x.float().t()
        return [x, y, torch.bmm(y[None], y[None])]


@pytest.mark.parametrize("backend", ["graph", pytest.param("inductor", marks=needs_compiler)])
def test_autocast_is_as_the_program_and_the_caller_have_it(backend):
    net, x = Casts(), torch.randn(5, 8)
    captured = CapturedFunction(net, [net], required=True, backend=backend)
    for inside in (False, True, False):
        with torch.no_grad(), torch.autocast("cpu", enabled=inside):
            for one, two in zip(captured([x]), net([x]), strict=True):
                torch.testing.assert_close(one, two)
    assert captured.num_graphs == 2


def test_threads_capture_one_after_the_other():
    def captured(number):
        x = torch.full((2, 3), float(number))
        run = CapturedFunction(
            lambda tensors: [tensors[0].exp() + number], [], required=True, backend="graph"
        )
        return torch.equal(run([x])[0], x.exp() + number)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(captured, range(12)))


@pytest.mark.parametrize("backend", ["graph", pytest.param("inductor", marks=needs_compiler)])
def test_classes_out_of_range_are_an_error_of_one_hot(backend):
    one_hot, classes = nn.functional.one_hot, torch.randint(0, 5, (4, 3))

    def indicators(tensors):
        return [one_hot(input=tensors[0], num_classes=5), one_hot(tensors[0], 7)]

    captured = CapturedFunction(indicators, [], required=True, backend=backend)
    for each in (classes, classes.flip(0)):
        assert all(torch.equal(one, two) for one, two in zip(captured([each]), indicators([each])))
    for wrong in (5, -1):
        with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
            captured([classes.index_fill(0, torch.tensor([2]), wrong)])
    with pytest.raises(RuntimeError, match="one_hot is only applicable to index tensor of type"):
        CapturedFunction(lambda given: [one_hot(given[0].int(), 5)], [], required=True)([classes])


@needs_compiler
def test_an_index_out_of_range_is_told_by_its_line():
    table = torch.randn(5, 3)
    captured = CapturedFunction(lambda tensors: [table[tensors[0]].exp()], [], required=True)
    captured([torch.tensor([0, 4])])
    with pytest.raises(
        IndexError, match=r"test_function\.py:\d+, `.*table\[tensors.*index 5 is out of bounds"
    ):
        captured([torch.tensor([0, 5])])
    assert torch.equal(captured([torch.tensor([1, 2])])[0], table[1:3].exp())


def test_constants_may_be_looked_at():
    def masked(tensors):
        mask = torch.tensor([True, False, True])
        count = int(mask.sum())
        return [tensors[0] * count + torch.tensor([0.5, 0.25, 2.0])[mask].sum()]

    x = torch.randn(4, 3)
    run = CapturedFunction(masked, [], required=True, backend="graph")
    assert torch.equal(run([x])[0], masked([x])[0])
    assert torch.equal(run([2 * x])[0], masked([2 * x])[0])
