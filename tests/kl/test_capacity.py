"""Capacity: the path of C, and the distance from it."""

from __future__ import annotations

import pytest
import torch

from ppl_vae.kl import Capacity, KLPlan
from tests.kl.programs import particles


def test_the_capacity_rises_in_a_straight_line():
    in_steps = Capacity(10.0, steps=40).in_epochs(steps_per_epoch=8)
    for treatment in (in_steps, Capacity(10.0, epochs=5)):
        assert treatment.ends() == 5
        assert [treatment.capacity(epoch) for epoch in (0, 1, 2.5, 5, 50)] == [0, 2, 5, 10, 10]


def test_the_penalty_is_the_distance_from_the_capacity_at_that_time(double):
    drawn = particles(torch.tensor([[1.0, 2.0, 0.5, 0.5]], requires_grad=True))
    divergence = drawn.kl("z").mean()
    schedule = KLPlan(Capacity(10.0, steps=40, gamma=3.0), ("z",), epochs=9, steps_per_epoch=8)
    schedule.make_penalties(drawn, data_size=1)
    penalty = schedule.penalties["z"]
    torch.testing.assert_close(penalty(drawn), 3 * divergence)
    before = penalty.capacity
    for epoch, capacity in ((0.5, 1.0), (2.5, 5.0), (7.0, 10.0)):
        schedule.set_epoch(epoch)
        torch.testing.assert_close(penalty(drawn), 3 * (divergence - capacity).abs())
    assert penalty.capacity is before, "a captured step must see it move"
    assert schedule.at(2.5) == {"z": 0.0}


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"target": -1.0, "steps": 5}, "target must be a finite number >= 0, got -1"),
        ({"target": 1.0}, "either steps or epochs"),
        ({"target": 1.0, "steps": 5, "epochs": 5}, "either steps or epochs"),
        ({"target": 1.0, "steps": 0}, "either steps or epochs, a positive number"),
        ({"target": 1.0, "steps": 5, "gamma": -2.0}, "gamma must be a finite number"),
    ],
)
def test_what_makes_no_sense_is_refused(options, fragment):
    with pytest.raises(ValueError, match=fragment):
        Capacity(**options)


def test_a_duration_in_steps_has_no_end_in_epochs_by_itself():
    with pytest.raises(ValueError, match="in_epochs"):
        Capacity(1.0, steps=5).ends()
