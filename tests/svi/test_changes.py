"""What of the loss, the programs, hooks and functions is exchanged between steps is seen at once."""

from __future__ import annotations

import copy
import itertools
import pickle
import signal

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import JitTrace_ELBO, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

import ppl_vae as pv
from ppl_vae.capture import CaptureError
from ppl_vae.svi import svi as svi_module

DATA = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 3, dtype=torch.float64)
        self.activation = torch.tanh
        self.scale = np.float64(1.5)
        self.boost = self.twice

    def twice(self, x):
        return 2 * x

    def thrice(self, x):
        return 3 * x

    def forward(self, x):
        pyro.module("model", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            loc = self.boost(self.activation(self.net(z)))
            pyro.sample("x", dist.Normal(loc, float(self.scale)).to_event(1), obs=x)


class Guide(nn.Module):
    def __init__(self, scale=0.5):
        super().__init__()
        self.net, self.scale = nn.Linear(3, 2, dtype=torch.float64), scale

    def forward(self, x):
        pyro.module("guide", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.net(x), self.scale).to_event(1))


def as_pyros(svi):
    """Graphs without a compiler, with the random numbers of Pyro's."""
    for program in svi._captured.values():
        program.backend, program.same_noise = "graph", True
    return svi


def make(captured, loss=Trace_ELBO, optimizer=pyro.optim.SGD):
    pyro.clear_param_store()
    torch.manual_seed(0)
    arguments = Model(), Guide(), optimizer({"lr": 0.01}), loss()
    return as_pyros(pv.SVI(*arguments, capture=True)) if captured else pyro.infer.SVI(*arguments)


def trained(captured, change, steps=4):
    """Losses and weights of a training in whose middle something changes, always under the same noise."""
    svi = make(captured)
    svi.hook = svi.model.net.register_forward_hook(lambda net, args, found: found * 0.1)
    losses = [svi.step(DATA) for _ in range(steps)]
    change(svi)
    losses += [svi.step(DATA) for _ in range(steps)]
    return losses, [each.detach().clone() for each in pyro.get_param_store()._params.values()]


def _another_hook(svi):
    svi.hook.remove()
    svi.model.net.register_forward_hook(lambda net, args, found: found * 0.5)


def _another_guide(svi):
    svi.guide = Guide(0.2)


CHANGES = {
    "particles": lambda svi: setattr(svi.loss_and_grads.__self__, "num_particles", 3),
    "loss": lambda svi: setattr(svi, "loss_and_grads", TraceMeanField_ELBO().loss_and_grads),
    "loss with an attribute": lambda svi: setattr(svi, "loss_and_grads", RenyiELBO(0.5, 2).loss_and_grads),
    "guide": _another_guide,
    "function": lambda svi: setattr(svi.model, "activation", torch.sigmoid),
    "method": lambda svi: setattr(svi.model, "boost", svi.model.thrice),
    "NumPy's number": lambda svi: setattr(svi.model, "scale", np.float64(0.7)),
    "hook": lambda svi: svi.model.register_forward_pre_hook(lambda model, args: (args[0] * 2,)),
    "another hook": _another_hook,
    "backward hook": lambda svi: svi.model.net.register_full_backward_hook(
        lambda net, inwards, outwards: tuple(each * 0.1 for each in inwards)
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen_at_once(name):
    losses, weights = trained(False, CHANGES[name])
    found, others = trained(True, CHANGES[name])
    assert found == pytest.approx(losses, rel=1e-10)
    torch.testing.assert_close(others, weights, rtol=1e-10, atol=0)


class Renewed(nn.Module):
    """Makes its functions anew in each run, the same ones or others."""

    def __init__(self, scales):
        super().__init__()
        self.scales, self.hook = scales, None
        self.net = nn.Linear(2, 3, dtype=torch.float64)

    def forward(self, x):
        pyro.module("renewed", self)
        scale = next(self.scales)
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


@pytest.fixture(autouse=True)
def _heard():
    """A process that a shell runs in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_change_back_has_its_graph_still():
    svi = make(True)
    for particles in (1, 3, 1, 3, 1, 3, 1):
        svi.loss_and_grads.__self__.num_particles = particles
        svi.step(DATA)
    assert svi.graphs == 2


def test_a_failing_evaluation_leaves_the_training_alone():
    svi = make(True)
    scale = [1.0]
    svi.model.boost = lambda x: x * scale[0]
    for _ in range(5):
        svi.step(DATA)
        svi.evaluate_loss(DATA)
    weights = [each.detach().clone() for each in pyro.get_param_store()._params.values()]
    scale[0] = 2.0
    svi.evaluate_loss(DATA)
    with pytest.raises(CaptureError, match=r"1\.0 and is 2\.0"):
        svi.verify()
    torch.testing.assert_close([*pyro.get_param_store()._params.values()], weights, rtol=0, atol=0)


def test_one_training_does_not_undo_anothers_steps():
    first = make(True)
    scale = [1.0]
    first.model.boost = lambda x: x * scale[0]
    second = as_pyros(
        pv.SVI(first.model, first.guide, pyro.optim.SGD({"lr": 0.01}), RenyiELBO(0.5, 2), capture=True)
    )
    for _ in range(4):
        first.step(DATA)
    for _ in range(20):
        second.step(DATA)
    weights = [each.detach().clone() for each in pyro.get_param_store()._params.values()]
    scale[0] = 2.0
    with pytest.raises(CaptureError, match="nothing went back, since something else has changed"):
        first.verify()
    torch.testing.assert_close([*pyro.get_param_store()._params.values()], weights, rtol=0, atol=0)


def test_a_failing_comparison_puts_its_own_steps_back():
    svi = make(True, optimizer=pyro.optim.Adam)
    scale = [1.0]
    svi.model.boost = lambda x: x * scale[0]
    for _ in range(3):
        svi.step(DATA)
    svi.verify()
    weights = [each.detach().clone() for each in pyro.get_param_store()._params.values()]
    scale[0] = 2.0
    svi.step(DATA)
    with pytest.raises(CaptureError, match="are back to where they were before"):
        svi.verify()
    torch.testing.assert_close([*pyro.get_param_store()._params.values()], weights, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_losses_that_trace_are_refused_by_name():
    with pytest.raises(CaptureError, match="JitTrace_ELBO traces the programs itself: give Trace_ELBO"):
        trained(True, lambda svi: setattr(svi, "loss_and_grads", JitTrace_ELBO().loss_and_grads))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy])
def test_a_copy_has_graphs_of_its_own(again):
    svi = make(True)
    svi.model.activation = svi.model.boost = nn.Identity()
    losses = [svi.step(DATA) for _ in range(3)]
    two = as_pyros(again(svi))
    assert (svi.graphs, two.graphs) == (1, 0)
    assert [two.step(DATA) for _ in range(3)] != losses
    assert (svi.graphs, two.graphs) == (1, 1)


def test_one_that_was_pickled_is_captured():
    svi = make(True)
    svi.model.activation = svi.model.boost = nn.Identity()
    two = as_pyros(pickle.loads(pickle.dumps(svi)))
    two.step(DATA), two.step(DATA)
    assert (svi.graphs, two.graphs) == (0, 1)


def test_marks_for_a_profiler_are_no_operations():
    svi = make(True)
    activation = svi.model.activation

    def marked(x):
        with torch.profiler.record_function("activation"):
            return activation(x)

    svi.model.activation = marked
    svi.step(DATA)
    with torch.profiler.profile():
        svi.step(DATA)
    assert svi.graphs == 1


def test_torchs_search_for_nan_in_gradients_is_let_be():
    svi = make(True)
    with torch.autograd.set_detect_anomaly(True):
        svi.step(DATA)
    svi.step(DATA)
    assert svi.graphs == 1


def test_ctrl_c_while_a_step_is_recorded_leaves_no_mode_on():
    svi = make(True)
    svi.step(DATA)
    activation, ran = svi.model.activation, []

    def interrupted(x):
        if torch.is_grad_enabled() and not ran:
            signal.raise_signal(signal.SIGINT)
        ran.append(x.shape)
        return activation(x)

    svi.model.activation = interrupted
    with pytest.raises(KeyboardInterrupt):
        svi.step(DATA)
    assert ran, "it waited"
    assert (torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack()) == (0, 0)
    svi.step(DATA)
    svi.step(DATA)
    assert svi.graphs == 1


class Unreadable(nn.Module):
    """A module whose attributes cannot be copied, which a recording does."""

    def __init__(self):
        super().__init__()
        self.kept = UncopiedList()

    def forward(self, x):
        return x


class UncopiedList(list):
    def copy(self):
        raise AttributeError("no copies of this")


def test_what_goes_wrong_in_a_recording_is_a_refusal(monkeypatch):
    svi = make(True)
    svi.model.part = Unreadable()
    svi.step(DATA)
    with pytest.raises(CaptureError, match="AttributeError: no copies of this"):
        svi.step(DATA)
    monkeypatch.setattr(svi_module, "EAGER_STEPS", 1)
    svi.capture = "auto"
    with pytest.warns(UserWarning, match="no copies of this"):
        [svi.step(DATA) for _ in range(4)]
    assert svi.graphs == 0
