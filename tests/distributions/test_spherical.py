"""Distributions on the sphere: densities that integrate to one, draws that follow them, closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import kl_divergence

from ppl_vae.distributions.spherical import PowerSpherical
from ppl_vae.distributions.uniform_sphere import UniformSphere
from tests.conftest import SIGMAS

pytestmark = pytest.mark.usefixtures("double")

DIMS = pytest.mark.parametrize("dim", [2, 3, 7])


def build(dim, concentration=4.0):
    return PowerSpherical(torch.randn(dim), torch.tensor(concentration))


def test_on_the_circle_the_density_integrates_to_one():
    angle = torch.arange(2000) * (2 * math.pi / 2000)
    points = torch.stack([angle.cos(), angle.sin()], -1)
    for q in (build(2), build(2, 0.3), UniformSphere(torch.zeros(2))):
        assert (q.log_prob(points).exp().mean() * 2 * math.pi).item() == pytest.approx(1, abs=1e-3)


def test_on_the_sphere_the_density_integrates_to_one():
    # Archimedes: height and angle are uniform
    steps = (torch.arange(400) + 0.5) / 400
    height, angle = torch.cartesian_prod(2 * steps - 1, 2 * math.pi * steps).T
    radius = (1 - height.square()).sqrt()
    points = torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1)
    for q in (build(3), UniformSphere(torch.zeros(3))):
        assert (q.log_prob(points).exp().mean() * 4 * math.pi).item() == pytest.approx(1, abs=1e-3)


@DIMS
def test_entropy_and_kl_are_those_of_the_draws(dim):
    q, p = build(dim), UniformSphere(torch.zeros(dim))
    z = q.sample((20_000,))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(20_000))
    for exact, values in (
        (q.entropy(), -q.log_prob(z)),
        (kl_divergence(q, p), q.log_prob(z) - p.log_prob(z)),
    ):
        assert abs(values.mean() - exact) < SIGMAS * values.std() / 20_000**0.5
    assert kl_divergence(build(dim, 0.0), p).item() == pytest.approx(0, abs=1e-10)


@DIMS
def test_the_draws_lie_around_the_direction(dim):
    q = build(dim)
    z = q.sample((20_000,))
    # E[t] = (alpha - beta) / (alpha + beta), and nothing across
    shrunk = 4.0 / (4.0 + dim - 1)
    error = SIGMAS * z.std(0) / 20_000**0.5
    assert ((z.mean(0) - shrunk * q.mean).abs() < error).all()


@pytest.mark.parametrize("dim", [2, 5])
def test_the_gradients_are_pathwise(dim):
    """Of E[t], which is known, with respect to the concentration; and of E[z] to the direction."""
    concentration = torch.tensor(4.0, requires_grad=True)
    q = PowerSpherical(direction := torch.randn(dim), concentration)
    along = (q.rsample((20_000,)) * q.mean).sum(-1)
    mean = concentration / (concentration + dim - 1)
    (exact,) = torch.autograd.grad(mean, concentration)
    # one gradient for each of 50 groups of draws, for a standard error
    groups = torch.stack(
        [torch.autograd.grad(part.mean(), concentration, retain_graph=True)[0] for part in along.split(400)]
    )
    assert abs(groups.mean() - exact) < 6 * groups.std() / len(groups) ** 0.5
    direction = direction.requires_grad_()
    weight = torch.randn(dim)
    z = PowerSpherical(direction, concentration.detach()).rsample((20_000,)) @ weight
    groups = torch.stack(
        [torch.autograd.grad(p.mean(), direction, retain_graph=True)[0] for p in z.split(400)]
    )
    unit = torch.nn.functional.normalize(direction, dim=0)
    (exact,) = torch.autograd.grad((unit @ weight) * mean.detach(), direction)
    assert ((groups.mean(0) - exact).abs() < 6 * groups.std(0) / len(groups) ** 0.5).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("concentration", [0.0, 1e-4, 1e2, 2e4])
def test_extreme_concentrations_stay_on_the_sphere(dtype, concentration):
    loc = torch.eye(5, dtype=dtype, requires_grad=True)  # the first is the axis that is reflected to itself
    q = PowerSpherical(loc, torch.full((5,), concentration, dtype=dtype), validate_args=True)
    z = q.rsample((200,))
    assert q.support.check(z).all()
    q.log_prob(z).sum().backward()
    assert q.log_prob(z).isfinite().all()
    assert loc.grad.isfinite().all()


def test_a_sphere_needs_two_dimensions():
    with pytest.raises(ValueError, match=r"at least 2 dimensions, got shape \(1,\)"):
        UniformSphere(torch.zeros(1))
