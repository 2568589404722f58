"""The optimizers' updates after a graph: by one kernel, or as they are written."""

from __future__ import annotations

import copy

import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam

from ppl_vae import estimators
from ppl_vae.capture import CaptureError
from ppl_vae.capture.looks import sharing
from ppl_vae.capture.moves import Moves
from ppl_vae.compiler import kernels
from tests.capture.helpers import (
    TOLERANCE,
    assert_same_steps,
    captured_step,
    images,
    needs_compiler,
    seeded,
    vae,
)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_clipped_adam_equals_pyros(dtype):
    def make(pair):
        return ClippedAdam(pair.parameters(), lr=3e-3, lrd=0.9, clip_norm=0.5, weight_decay=0.1)

    assert_same_steps(vae(dtype), estimators.ELBO(), [(images(dtype=dtype),)], make, check_finite=False)


def test_numbers_in_python_move_with_the_graphs():
    pair, x = vae(torch.float64), images(dtype=torch.float64)
    optimizer = ClippedAdam(pair.parameters(), lr=1e-2, lrd=0.5)
    captured = captured_step(pair, estimators.ELBO(), optimizer)
    for _ in range(3):
        captured(x)
    assert optimizer.param_groups[0]["lr"] == 1e-2 * 0.5**3
    assert {state["step"] for state in optimizer.state.values()} == {3}
    before = copy.deepcopy(pair.state_dict())
    optimizer.param_groups[0]["lr"] = 0.0
    captured(x)
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    assert len(captured._graphs) == 1
    captured(x * float("nan"))  # no step
    optimizer.param_groups[0]["lr"] = 1e-2
    other = copy.deepcopy(pair)
    same = ClippedAdam(other.parameters(), lr=1e-2, lrd=0.5)
    same.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert seeded(captured, x) == pytest.approx(
        seeded(captured_step(other, estimators.ELBO(), same), x), rel=1e-12
    )
    for one, two in zip(pair.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=0)


def test_other_parameters_are_seen_and_a_state_that_is_loaded():
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = torch.optim.Adam(parameters[:1], lr=0.1)
    moves = Moves([optimizer], {id(parameter): number for number, parameter in enumerate(parameters)})
    moves.after((0,), [torch.ones(2)])
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert not moves.moved()
    moves.after((0,), [torch.ones(2)])
    assert optimizer.state[parameters[0]]["step"] == 2
    optimizer.add_param_group({"params": parameters[1:]})
    assert moves.moved()


@needs_compiler
def test_one_kernel_moves_what_many_optimizers_hold(monkeypatch):
    """As Pyro has an optimizer for each parameter; another learning rate is another kernel."""
    run, calls = kernels._run, []
    monkeypatch.setattr(kernels, "_run", lambda *given: calls.append(run(*given)))
    torch.manual_seed(0)
    starts = [torch.randn(3), torch.randn(2, 3), torch.randn(3)]
    mine, theirs = ([torch.nn.Parameter(each.clone()) for each in starts] for _ in range(2))
    optimizers, others = ([torch.optim.Adam([each], lr=0.1) for each in all_] for all_ in (mine, theirs))
    moves = Moves(optimizers, {id(each): number for number, each in enumerate(mine)})
    for step, expected in enumerate((0, 1, 2, 2)):  # the first step is torch's own, which makes the state
        calls.clear()
        if step == 2:
            optimizers[1].param_groups[0]["lr"] = others[1].param_groups[0]["lr"] = 0.05
        gradients = [torch.randn_like(each) for each in mine]
        moves.after((0, 1, 2), gradients, torch.zeros(()))
        assert len(calls) == expected
        for parameter, optimizer, gradient in zip(theirs, others, gradients, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.NAdam, ClippedAdam])
def test_nothing_moves_for_a_loss_that_is_not_finite(kind):
    parameter = torch.nn.Parameter(torch.ones(3))
    moves = Moves([kind([parameter], lr=0.1)], {id(parameter): 0})
    moves.after((0,), [torch.full((3,), torch.nan)], torch.ones(()))
    assert torch.equal(parameter, torch.ones(3))
    moves.after((0,), [torch.ones(3)], torch.zeros(()))
    assert torch.isfinite(parameter).all()
    assert not torch.equal(parameter, torch.ones(3))


KEPT = [(torch.optim.Adam, {}), (ClippedAdam, {"lrd": 0.5}), (torch.optim.NAdam, {}), (torch.optim.Rprop, {})]


@pytest.mark.parametrize(("kind", "options"), KEPT)
@pytest.mark.parametrize("when", [0, 2])
def test_what_is_put_back_goes_on_as_it_would_have(kind, options, when):
    """Before the first step too, when there is no state yet."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = kind([parameter], lr=0.1, **options)
    moves = Moves([optimizer], {id(parameter): 0})
    for _ in range(when):
        moves.after((0,), [torch.ones(3)])
    kept, value, found = moves.kept(), parameter.detach().clone(), []
    for _ in range(2):
        moves.put_back(kept)
        parameter.data.copy_(value)
        for number in range(3):
            moves.after((0,), [torch.full((3,), 1.0 + number)])
        found.append((optimizer.param_groups[0]["lr"], parameter.tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("clip_norm", [0.5, 2])
def test_pyros_adam_has_a_kernel_too(clip_norm):
    options = {
        "lr": 0.1,
        "lrd": 0.9,
        "clip_norm": clip_norm,
        "weight_decay": 0.1,
        "betas": (0.8, 0.9),
        "eps": 0.1,
    }
    mine, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2))
    optimizers = ClippedAdam([mine], **options), ClippedAdam([theirs], **options)
    moves = Moves(optimizers[:1], {id(mine): 0})
    for step in range(4):
        gradient = torch.linspace(-3, 3, 5) * (step - 1.5)
        theirs.grad = gradient.clone()
        moves.after((0,), [gradient])
        optimizers[1].step()
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
    assert optimizers[0].state[mine]["step"] == 4
    assert optimizers[0].param_groups[0]["lr"] == optimizers[1].param_groups[0]["lr"]


def test_one_that_runs_the_program_itself_is_refused():
    parameter = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(CaptureError, match=r"LBFGS runs the program itself, by step\(closure\)"):
        Moves([torch.optim.LBFGS([parameter])], {id(parameter): 0})


def test_gradients_that_are_parameters_are_found():
    """A compiler may hand out an input as a result, and a kernel would then read what it has just moved."""
    w, v = torch.ones(3), torch.ones(3)
    moved = w * v
    assert sharing([moved, v[1:], w * 2, moved], [w, v]) == [1, 3]


@needs_compiler
@pytest.mark.parametrize(
    "options", [{}, {"weight_decay": 0.1, "maximize": True, "betas": (0.8, 0.9)}], ids=str
)
@pytest.mark.parametrize("default", [torch.float32, torch.float64], ids=str)
def test_adamax_has_a_kernel_too(options, default):
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        mine, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 37, dtype=torch.float32)) for _ in range(2))
        optimizers = [torch.optim.Adamax([each], lr=0.1, **options) for each in (mine, theirs)]
        moves = Moves(optimizers[:1], {id(mine): 0})
        for step in range(4):
            theirs.grad = torch.linspace(-3, 3, 37, dtype=torch.float32) * (step - 1.5)
            moves.after((0,), [theirs.grad])
            optimizers[1].step()
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
        counted = torch.zeros(()).dtype == torch.float32
        assert kernels.move(optimizers[:1], {}) == [] or not counted
        assert optimizers[0].state[mine]["step"] == 4
    finally:
        torch.set_default_dtype(before)
