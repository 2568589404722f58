"""What is done to an optimizer between captured steps: followed as an eager step does."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from ppl_vae import estimators
from ppl_vae.capture.capture_error import CaptureError
from tests.capture.helpers import assert_same_steps, captured_step, images, vae

ADAM = torch.optim.Adam, {"lr": 3e-3}
SGD = torch.optim.SGD, {"lr": 1e-2}
MOMENTUM = torch.optim.SGD, {"lr": 1e-3, "momentum": 0.9}
RMSPROP = torch.optim.RMSprop, {"lr": 1e-3}


def clear(optimizer, pair):
    optimizer.state.clear()


def forget_one(optimizer, pair):
    del optimizer.state[next(pair.parameters())]


def leave_one_out(optimizer, pair):
    optimizer.param_groups[0]["params"].pop()


def another_order(optimizer, pair):
    optimizer.param_groups[0]["params"].reverse()


def divide(optimizer, pair):
    group = optimizer.param_groups[0]
    group["params"], last = group["params"][:-1], group["params"][-1:]
    optimizer.add_param_group({"params": last, "lr": 0.1})


def larger_moments(optimizer, pair):
    for state in optimizer.state.values():
        state.update({name: 3 * each for name, each in state.items() if each.dim()})


def load(optimizer, pair):
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def schedule(optimizer, pair):  # whose wrapper of step is as good as none
    torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.param_groups[0]["lr"] *= 0.5


FEW = [(ADAM, clear), (ADAM, schedule), (SGD, leave_one_out), (RMSPROP, divide)]
MORE = [
    *[(ADAM, each) for each in (forget_one, leave_one_out, another_order, divide, larger_moments, load)],
    *[
        (SGD, divide),
        (MOMENTUM, clear),
        (MOMENTUM, leave_one_out),
        (RMSPROP, clear),
        (RMSPROP, leave_one_out),
    ],
]


@pytest.mark.parametrize(
    ("kind", "change"), [*FEW, *[pytest.param(*each, marks=pytest.mark.grid) for each in MORE]]
)
def test_is_followed(kind, change):
    assert_followed(lambda pair: kind[0](pair.parameters(), **kind[1]), change)


def assert_followed(make, change, prepare=lambda pair: None):
    def before(number, optimizer, pair):
        if number == 3:
            change(optimizer, pair)

    pair = vae(torch.float64)
    prepare(pair)
    batches = [(images(dtype=torch.float64),)]
    assert_same_steps(pair, estimators.ELBO(), batches, make, steps=6, before=before)


def hook(optimizer, pair):
    optimizer.register_step_post_hook(lambda *_: halve(pair))


def hook_of_all(optimizer, pair):
    mine = lambda which, *_: halve(pair) if which is optimizer else None  # noqa: E731
    return register_optimizer_step_post_hook(mine)


def own_step(optimizer, pair):
    step = optimizer.step
    optimizer.step = lambda *args, **kwargs: (step(*args, **kwargs), halve(pair))


def halve(pair):
    with torch.no_grad():
        next(pair.parameters()).mul_(0.5)


@pytest.mark.parametrize("change", [hook, hook_of_all, own_step])
def test_what_is_added_to_a_step_is_called(change):
    handles = []
    try:
        assert_followed(
            lambda pair: torch.optim.Adam(pair.parameters()),
            lambda optimizer, pair: handles.append(change(optimizer, pair)),
        )
    finally:
        for each in handles:
            if each is not None:
                each.remove()


def test_hooks_on_parameters():
    """Those on a gradient are part of the program; those on an accumulated one would see none."""

    def halve_gradient(pair):
        next(pair.parameters()).register_hook(lambda gradient: gradient / 2)
        return torch.optim.SGD(pair.parameters(), lr=1e-2)

    assert_followed(halve_gradient, lambda *_: None)
    pair, x = vae(), images()
    step = captured_step(pair, estimators.ELBO(), torch.optim.Adam(pair.parameters()))
    step(x)
    halve_gradient(pair)
    step(x)
    step.verify()
    assert len(step._graphs) == 2
    pair = vae()
    next(pair.parameters()).register_post_accumulate_grad_hook(lambda _: None)
    with pytest.raises(CaptureError, match="register_post_accumulate_grad_hook"):
        captured_step(pair, estimators.ELBO(), torch.optim.Adam(pair.parameters()))(x)


def test_what_is_written_by_out_is_put_back_after_a_recording():
    """As spectral normalisation writes its vectors, which would go on at each recording."""

    def normalise(pair):
        for layer in [each for each in pair.modules() if isinstance(each, nn.Linear)]:
            nn.utils.parametrizations.spectral_norm(layer)

    assert_followed(lambda pair: torch.optim.Adam(pair.parameters()), lambda *_: None, normalise)
