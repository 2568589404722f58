"""The wrapped normal on the ball: its density integrates to one, its draws are as far as they should be."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Chi2, biject_to

from ppl_vae.distributions.ball import Ball, Wrapping, distance
from ppl_vae.distributions.hyperbolic import WrappedNormal
from tests.conftest import SIGMAS

pytestmark = pytest.mark.usefixtures("double")

CURVATURES = pytest.mark.parametrize("curvature", [0.3, 1.0, 4.0])


def build(curvature, dim=2, scale=0.7):
    loc = torch.randn(dim)
    return WrappedNormal(0.6 / math.sqrt(curvature) * loc / loc.norm(), torch.full((dim,), scale), curvature)


@CURVATURES
def test_the_density_integrates_to_one(curvature):
    q = build(curvature)
    # the points of the plane by radius and angle, denser towards the edge
    steps = (torch.arange(1500) + 0.5) / 1500
    far = 12 * steps
    radius = (far / 2).tanh()
    ring = 12 / 1500 * (1 - radius.square()) / 2
    angle = 2 * math.pi * torch.arange(400) / 400
    points = torch.stack([angle.cos(), angle.sin()], -1) * radius[:, None, None] / math.sqrt(curvature)
    area = (radius * ring * 2 * math.pi / 400).unsqueeze(-1) / curvature
    assert ((q.log_prob(points).exp() * area).sum()).item() == pytest.approx(1, abs=1e-5)


def by_cosine(x, y, curvature):
    """The distance by its other formula."""
    inside = [1 - curvature * each.square().sum(-1) for each in (x, y)]
    apart = 2 * curvature * (x - y).square().sum(-1)
    return (1 + apart / (inside[0] * inside[1])).acosh() / math.sqrt(curvature)


@CURVATURES
@pytest.mark.parametrize("dim", [2, 5])
def test_the_draws_are_as_far_as_their_tangents_are_long(curvature, dim):
    q = build(curvature, dim)
    z = q.sample((4000,))
    assert bool(q.support.check(z).all())
    far = by_cosine(q.mean, z, curvature)
    torch.testing.assert_close(distance(q.mean, z, curvature), far)
    squares = (far / 0.7).square()  # of dim standard normal numbers
    assert abs(squares.mean() - dim) < SIGMAS * math.sqrt(2 * dim / 4000)
    share = (squares < dim).double().mean()
    exact = Chi2(torch.tensor(float(dim))).cdf(torch.tensor(float(dim)))
    assert abs(share - exact) < SIGMAS * (exact * (1 - exact) / 4000).sqrt()


@CURVATURES
def test_the_map_is_a_bijection_whose_determinant_is_autograds(curvature):
    wrapping = Wrapping(build(curvature, 3).loc, curvature)
    for v in torch.randn(5, 3) * torch.tensor([1e-3, 0.1, 1.0, 2.0, 4.0]).unsqueeze(-1):
        z = wrapping(v)
        torch.testing.assert_close(wrapping.inv(z), v, atol=1e-9, rtol=1e-7)
        matrix = torch.autograd.functional.jacobian(wrapping, v)
        torch.testing.assert_close(wrapping.log_abs_det_jacobian(v, z), matrix.det().abs().log())
    assert wrapping(torch.zeros(3)).isfinite().all()


@CURVATURES
def test_gradients_and_densities_are_finite_at_the_edge_in_float32(curvature):
    zeros = torch.zeros(4, 30, dtype=torch.float32)
    q = WrappedNormal(zeros, zeros + 20.0, curvature).expand((7, 4))
    z = q.rsample()
    assert z.dtype == torch.float32
    assert bool(q.support.check(z).all())
    assert q.log_prob(z.clone()).isfinite().all()
    v = torch.zeros(2, 3, requires_grad=True)
    Wrapping(None, curvature)(v).sum().backward()
    torch.testing.assert_close(v.grad, torch.full((2, 3), 0.5))


def test_the_bijection_of_the_support():
    found = biject_to(Ball(2.0))
    assert found.curvature == 2.0
    assert found.codomain.check(found(torch.tensor([3.0, 100.0])))
    assert not Ball(2.0).check(torch.tensor([0.6, 0.4]))


def test_outside_of_the_ball_nothing_can_be():
    inside, outside = torch.tensor([0.6, 0.3]), torch.tensor([0.6, 0.5])  # of curvature 2: 0.9, and 1.22
    fn = WrappedNormal(torch.zeros(2), torch.ones(2), curvature=2.0, validate_args=False)
    found = fn.expand((2,)).log_prob(torch.stack([inside, outside]))
    assert found[0].isfinite()
    assert found[1] == -torch.inf
