"""DIP: the covariance of the aggregate posterior, by hand."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae.kl import DIP
from ppl_vae.sites import PairError
from tests.kl.programs import LaplaceGuide, particles

X = torch.cat(
    [torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), torch.rand(50, 3) + 0.2], -1
).double()


@pytest.mark.parametrize("num_particles", [1, 2])
@pytest.mark.parametrize("kind", ["I", "II"])
def test_the_penalty_by_hand(kind, num_particles):
    covariance = torch.cov(X[:, :3].T, correction=0)
    if kind == "II":
        covariance = covariance + torch.diag(X[:, 3:].square().mean(0))
    off = covariance - torch.diag(covariance.diagonal())
    expected = 2 * off.square().sum() + 5 * (covariance.diagonal() - 1).square().sum()
    drawn = particles(X, num_particles)
    torch.testing.assert_close(DIP(kind, 2.0, 5.0).penalty("z", drawn, 50)(drawn), expected)


@pytest.mark.parametrize(("kind", "lambda_d"), [("I", 30.0), ("II", 3.0)])
def test_the_papers_weights_on_the_diagonal(kind, lambda_d):
    drawn = particles(X)
    default, given = (DIP(kind, 3.0, value).penalty("z", drawn, 50)(drawn) for value in (None, lambda_d))
    assert torch.equal(default, given)


def test_white_codes_cost_nothing_and_the_variance_is_the_guides():
    loc = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    drawn = particles(torch.cat([loc, torch.full((4, 2), 0.1)], -1))
    assert DIP("I").penalty("z", drawn, 4)(drawn) == pytest.approx(0.0, abs=1e-12)
    scale = 0.5**0.5
    half = torch.cat([loc * scale, torch.full((4, 2), scale)], -1)
    assert DIP("II").penalty("z", particles(half), 4)(particles(half)) == pytest.approx(0.0, abs=1e-10)
    laplace = torch.cat([loc * scale, torch.full((4, 2), 0.5)], -1)  # a variance of 2 b^2
    drawn = particles(laplace, guide=LaplaceGuide())
    assert DIP("II").penalty("z", drawn, 4)(drawn) == pytest.approx(0.0, abs=1e-10)


def test_one_datum_is_finite():
    drawn = particles(X[:1])
    assert DIP("II").penalty("z", drawn, 50)(drawn).isfinite()


def test_a_posterior_without_moments_is_refused():
    class CauchyGuide(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", dist.Cauchy(x[:, :3], x[:, 3:]).to_event(1))

    with pytest.raises(PairError, match="the mean or variance of the guide's site 'z' is not finite"):
        DIP().penalty("z", particles(X, guide=CauchyGuide()), 50)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"kind must be 'I' or 'II', got 'III'"):
        DIP("III")
    with pytest.raises(ValueError, match=r"lambda_d must be a finite number >= 0, got -1"):
        DIP("I", 1.0, -1.0)
