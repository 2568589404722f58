"""The flat density and the point mass: log-probabilities, shapes, and how they are recognised."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch.distributions import constraints

from ppl_vae.distributions.improper import Flat, PointMass, is_improper


def test_flat_is_zero_everywhere():
    flat = Flat(torch.zeros(3))
    assert (flat.batch_shape, flat.event_shape) == ((), (3,))
    z = 1e6 * torch.randn(4, 5, 3)
    assert torch.equal(flat.expand((5,)).log_prob(z), torch.zeros(4, 5))
    assert flat.expand((4, 5)).log_prob(torch.zeros(3)).shape == (4, 5)
    assert flat.expand((4, 5)).sample().shape == (4, 5, 3)


def test_a_point_mass_is_zero_at_its_point_and_nowhere_else():
    point = torch.randn(6, 3)
    mass = PointMass(point)
    assert (mass.batch_shape, mass.event_shape, mass.has_rsample) == ((6,), (3,), True)
    assert torch.equal(mass.sample(), point)
    assert torch.equal(mass.log_prob(point), torch.zeros(6))
    assert torch.equal(mass.log_prob(point + 1e-5), torch.zeros(6))
    elsewhere = point.clone()
    elsewhere[2, 1] += 0.1
    assert mass.log_prob(elsewhere).tolist() == [0, 0, -math.inf, 0, 0, 0]
    assert mass.expand((2, 6)).log_prob(point).shape == (2, 6)


def test_what_cannot_be_drawn_from_is_recognised():
    assert is_improper(Flat(torch.zeros(2)).expand((3,)).mask(True))
    assert is_improper(dist.ImproperUniform(constraints.real, (3,), (2,)))
    assert not is_improper(dist.Normal(0.0, 1.0).expand((3,)).to_event(1))
    assert not is_improper(PointMass(torch.zeros(2)))
