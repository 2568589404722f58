"""Parametric priors: shapes, dtypes, and closed-form divergences from the guides that they belong to."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

from ppl_vae import priors
from ppl_vae.distributions import spherical
from tests.conftest import SIGMAS

pytestmark = pytest.mark.usefixtures("double")

PRIORS = {
    "log-normal": (priors.LogNormal, {"loc": 0.3, "scale": 0.8}),
    "gamma": (priors.Gamma, {"concentration": 2.0, "rate": 1.5}),
    "exponential": (priors.Exponential, {"rate": 0.7}),
    "gumbel": (priors.Gumbel, {"loc": 0.2, "scale": 1.3}),
    "laplace": (priors.Laplace, {"loc": -0.1, "scale": 0.6}),
    "student-t": (priors.StudentT, {"degrees": 4.0, "loc": 0.1, "scale": 0.9}),
    "sphere": (priors.Sphere, {}),
}


def guide_of(name):
    loc, scale = torch.tensor([0.4, -0.3, 0.1]), torch.tensor([0.5, 0.9, 1.2])
    return {
        "log-normal": dist.LogNormal(loc, scale).to_event(1),
        "gamma": dist.Gamma(1 / scale, 1 + scale).to_event(1),
        "exponential": dist.Exponential(1 / scale).to_event(1),
        "gumbel": dist.Gumbel(loc, scale).to_event(1),
        "laplace": dist.Laplace(loc, scale).to_event(1),
        "student-t": dist.StudentT(7.0, loc, scale).to_event(1),
        "sphere": spherical.PowerSpherical(loc, torch.tensor(3.0)),
    }[name]


@pytest.mark.parametrize("name", PRIORS)
def test_shapes_and_dtypes(name):
    make, options = PRIORS[name]
    for dtype in (torch.float32, torch.float64):
        prior = make(3, **options).to(dtype)
        p = prior()
        assert (p.batch_shape, p.event_shape) == ((), (3,))
        z = p.rsample((5, 2))
        assert z.dtype == dtype
        assert p.log_prob(z).shape == (5, 2)
        assert p.support.check(z).all()
        assert p.expand((4,)).sample().shape == (4, 3)
    assert not prior.state_dict()
    assert all(getattr(prior, argument) == value for argument, value in options.items())


@pytest.mark.parametrize("name", [name for name in PRIORS if name != "student-t"])
def test_closed_form_divergence_against_monte_carlo(name):
    make, options = PRIORS[name]
    q, p = guide_of(name), make(3, **options)()
    pairs = [(q, p)]
    if name == "gamma":
        pairs.append((q, priors.Exponential(3, 0.7)()))
    for q, p in pairs:
        z = q.sample((40_000,))
        values = q.log_prob(z) - p.log_prob(z)
        assert abs(values.mean() - kl_divergence(q, p)) < SIGMAS * values.std() / 200


def test_the_gradient_of_a_gamma_draw_is_pathwise():
    """d/da E[z^2] with E[z^2] = a (a + 1) / b^2."""
    concentration = torch.tensor([0.3, 1.5, 20.0], requires_grad=True)
    z = dist.Gamma(concentration, torch.tensor(2.0)).rsample((40_000,)).square()
    exact = (2 * concentration.detach() + 1) / 4
    groups = torch.stack(
        [torch.autograd.grad(p.mean(0).sum(), concentration, retain_graph=True)[0] for p in z.split(800)]
    )
    assert ((groups.mean(0) - exact).abs() < 6 * groups.std(0) / len(groups) ** 0.5).all()


def test_bad_parameters_are_named():
    for make, options, message in (
        (priors.LogNormal, {"scale": 0.0}, "scale must be a positive number, got 0.0"),
        (priors.Gamma, {"concentration": -1.0}, "concentration must be a positive number, got -1.0"),
        (priors.StudentT, {"degrees": 0.0}, "degrees must be a positive number, got 0.0"),
        (priors.Gumbel, {"loc": float("nan")}, "loc must be a finite number, got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            make(3, **options)
    with pytest.raises(ValueError, match="at least 2, the circle, got 1"):
        priors.Sphere(1)
