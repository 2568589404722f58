"""What of the loss, the programs, hooks and functions is exchanged between steps is seen at once."""

from __future__ import annotations

import copy
import pickle
import signal

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import JitTrace_ELBO, RenyiELBO, TraceMeanField_ELBO
from torch import nn

import ppl_vae as pv
from ppl_vae.capture import CaptureError
from ppl_vae.svi import svi as svi_module
from tests.svi.changing import DATA, Guide, as_pyros, make


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
