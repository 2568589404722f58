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
