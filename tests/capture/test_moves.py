"""The optimizers' updates: Pyro's ClippedAdam in a step of ours, with its numbers in Python."""

from __future__ import annotations

import copy

import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam

from ppl_vae import estimators
from ppl_vae.capture.moves import Moves
from tests.capture.helpers import TOLERANCE, assert_same_steps, captured_step, images, seeded, vae


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
    captured(x * float("nan"))  # not moved, but the decay goes on
    optimizer.param_groups[0]["lr"] = 1e-2
    other = copy.deepcopy(pair)
    same = ClippedAdam(other.parameters(), lr=1e-2, lrd=0.5)
    same.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert seeded(captured, x) == pytest.approx(
        seeded(captured_step(other, estimators.ELBO(), same), x), rel=1e-12
    )
    for one, two in zip(pair.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=0)


def test_parameters_that_move_apart_do_not_share_their_counts():
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    optimizers = [torch.optim.Adam([parameter], lr=0.1) for parameter in parameters]
    place = {id(parameter): number for number, parameter in enumerate(parameters)}
    assert len(set(Moves(optimizers, place)._steps.values())) == 1
    apart = Moves(optimizers, place, together=False)
    assert len(set(apart._steps.values())) == 3
    assert not apart.moved()
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    assert apart.moved()


def _after(moves, gradients, unfit=0.0):
    """Moves parameters as a graph's call does, with these gradients."""
    weights = dict(enumerate(each.detach() for each in moves.parameters))
    given = [each.clone() for each in moves.tensors]
    with torch.no_grad():
        moved, given_out = moves.move(
            weights, dict(enumerate(gradients)), moves.tensors, torch.tensor(not unfit)
        )
        moves.after(moved, given_out)
    return given


def test_one_kernel_moves_what_many_optimizers_hold():
    """As Pyro has an optimizer for each parameter; another learning rate is another kernel."""
    torch.manual_seed(0)
    starts = [torch.randn(3), torch.randn(2, 3), torch.randn(3)]
    mine, theirs = ([torch.nn.Parameter(each.clone()) for each in starts] for _ in range(2))
    optimizers, others = ([torch.optim.Adam([each], lr=0.1) for each in all_] for all_ in (mine, theirs))
    moves = Moves(optimizers, {id(each): number for number, each in enumerate(mine)}, together=False)
    for step, calls in enumerate((1, 1, 2, 2)):
        if step == 2:
            optimizers[1].param_groups[0]["lr"] = others[1].param_groups[0]["lr"] = 0.05
        moves.follow()
        gradients = [torch.randn_like(mine[0]), torch.randn(3, 2).t(), torch.randn(1).expand(3)]
        _after(moves, gradients)
        assert [len(each) for each in moves._calls.values()] == [calls]
        for parameter, optimizer, gradient in zip(theirs, others, gradients, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_nothing_moves_for_a_loss_that_is_not_finite(kind):
    parameter = torch.nn.Parameter(torch.ones(3))
    moves = Moves([kind([parameter], lr=0.1)], {id(parameter): 0})
    before = _after(moves, [torch.full((3,), torch.nan)], unfit=1.0)
    assert torch.equal(parameter, torch.ones(3))
    assert all(torch.equal(one, two) for one, two in zip(before, moves.tensors, strict=True))
