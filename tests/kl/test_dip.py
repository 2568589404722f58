"""DIP: the covariance of the aggregate posterior, by hand."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae import priors
from ppl_vae.core.drawing import draw
from ppl_vae.core.sites import PairError
from ppl_vae.kl import DIP
from ppl_vae.priors.normal_mixture import NormalMixture
from tests.kl.programs import Guide, LaplaceGuide, particles
from tests.zoo import CASES

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


class WithPrior(nn.Module):
    """z ~ a prior of choice, x | z ~ N(z, I), for the guides of `programs`."""

    def __init__(self, prior):
        super().__init__()
        self.prior = prior

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x[:, : x.shape[-1] // 2])


def under(prior, x=X):
    return draw(WithPrior(prior), Guide(), (x,), num_particles=2)


WIDE = torch.diag(torch.tensor([4.0, 1.0, 0.25])).double()
CORRELATED = torch.tensor([[2.0, 0.7, 0.0], [0.7, 1.0, 0.2], [0.0, 0.2, 0.5]]).double()
PLACES = torch.tensor([[-2.0, 0.0, 1.0], [2.0, 1.0, 0.0]]).double()
CENTRED = PLACES - PLACES.mean(0)
PRIORS = {
    "diagonal": (lambda x: dist.Normal(x.new_zeros(3), WIDE.diagonal().sqrt()).to_event(1), WIDE),
    "laplace": (lambda x: dist.Laplace(x.new_zeros(3), 1.0).to_event(1), 2 * torch.eye(3).double()),
    "full": (lambda x: dist.MultivariateNormal(x.new_zeros(3), CORRELATED), CORRELATED),
    "mixture": (
        lambda x: NormalMixture(PLACES, torch.full_like(PLACES, 0.5)),
        CENTRED.T @ CENTRED / 2 + torch.eye(3).double() / 4,
    ),
    # a mean of its own for each half of the data, as a label gives
    "by label": (
        lambda x: dist.Normal(PLACES[torch.arange(len(x)) % 2], 0.5).to_event(1),
        CENTRED.T @ CENTRED / 2 + torch.eye(3).double() / 4,
    ),
}


@pytest.mark.parametrize("kind", ["I", "II"])
@pytest.mark.parametrize("name", PRIORS)
def test_it_pulls_to_the_covariance_of_the_prior(name, kind):
    prior, covariance = PRIORS[name]
    drawn = under(prior)
    found = torch.cov(X[:, :3].T, correction=0)
    if kind == "II":
        found = found + torch.diag(X[:, 3:].square().mean(0))
    apart = found - covariance
    expected = 2 * (apart - torch.diag(apart.diagonal())).square().sum() + 5 * apart.diagonal().square().sum()
    torch.testing.assert_close(DIP(kind, 2.0, 5.0).penalty("z", drawn, 50)(drawn), expected)


def test_a_prior_whose_covariance_is_not_known_is_refused():
    flow = priors.Flow(3, transforms=1, hidden=(4,)).double()
    with pytest.raises(
        PairError, match=r"prior .* of site 'z' has no covariance in closed form: use kl\.MMD"
    ):
        DIP().penalty("z", under(lambda x: flow()), 50)
    with pytest.raises(PairError, match=r"covariance of the prior StudentT of site 'z' is not finite"):
        DIP().penalty("z", under(lambda x: dist.StudentT(1.5, x.new_zeros(3), 1.0).to_event(1)), 50)


def test_a_layer_under_another_is_refused():
    case = next(case for case in CASES if case.id == "LadderVAE-TopDown-dense")
    pair, batch = case.pair(), case.batch()
    example = draw(pair.model, pair.guide, batch)
    assert DIP().penalty("z2", example, 50)(example).isfinite()
    with pytest.raises(PairError, match=r"the prior of site 'z1' depends on \['z2'\]"):
        DIP().penalty("z1", example, 50)
