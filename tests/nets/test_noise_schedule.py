"""Noise schedules: both ends kept whatever is learned, rising, and the slope that of the curve."""

from __future__ import annotations

import pytest
import torch

from ppl_vae import nets


@pytest.mark.parametrize("num_units", [0, 1, 5])
def test_the_curve(double, num_units):
    torch.manual_seed(0)
    schedule = nets.NoiseSchedule(-9.0, 4.0, learned=False, num_units=num_units)
    for parameter in schedule.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter))
    time = torch.linspace(0, 1, 41).requires_grad_()
    gamma = schedule(time)
    torch.testing.assert_close(gamma[[0, -1]], torch.tensor([-9.0, 4.0]))
    assert bool((gamma.diff() > 0).all())
    (slope,) = torch.autograd.grad(gamma.sum(), time)
    torch.testing.assert_close(schedule.slope(time), slope)


def test_only_what_is_to_be_learned_has_a_gradient():
    assert not [each for each in nets.NoiseSchedule().parameters() if each.requires_grad]
    learned = nets.NoiseSchedule(learned=True)
    (learned(torch.tensor([0.0, 0.5, 1.0])) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert bool((learned.ends.grad != 0).all())


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"gamma_min": 6.0}, "gamma_min < gamma_max"),
        ({"gamma_max": float("inf")}, "gamma_min < gamma_max"),
        ({"factor": 0.0}, "factor positive"),
        ({"shift": float("nan")}, "shift must be finite"),
        ({"num_units": -1}, "num_units"),
        ({"num_units": True}, "num_units"),
    ],
)
def test_wrong_numbers_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        nets.NoiseSchedule(**wrong)
