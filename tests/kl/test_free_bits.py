"""FreeBits against hand computation, and its gradient below and above the floor."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, StudentT, kl_divergence

from ppl_vae import Pair, guides, nets
from ppl_vae.core import drawing
from ppl_vae.core.sites import PairError
from ppl_vae.kl import FreeBits
from ppl_vae.kl.divergence import kl_by_dimension
from tests.conftest import SIGMAS
from tests.evaluate.programs import TimeGuide, TimeModel
from tests.kl.programs import DiscreteThenNormalGuide, DiscreteThenNormalModel, StudentGuide, particles
from tests.oracle import make_pair
from tests.programs import (
    BernoulliGuide,
    BernoulliModel,
    ChainGuide,
    ChainModel,
    GlobalMeanGuide,
    GlobalMeanModel,
)

# two data, two dimensions: the first dimension is close to the prior, the second is not
X = torch.tensor([[0.1, 2.0, 0.9, 0.5], [-0.1, -1.0, 1.0, 0.3]], dtype=torch.float64)
KL = kl_divergence(Normal(X[:, :2], X[:, 2:]), Normal(0.0, 1.0))


def penalty(treatment, drawn):
    return treatment.penalty("z", drawn, data_size=10)(drawn)


@pytest.mark.parametrize("num_particles", [1, 3])
def test_the_floor_is_under_each_dimensions_mean_over_the_batch(num_particles):
    drawn = particles(X, num_particles)
    mean = KL.mean(0)
    assert mean[0] < 0.1 < mean[1]
    torch.testing.assert_close(penalty(FreeBits(0.1), drawn), 0.1 + mean[1])
    torch.testing.assert_close(penalty(FreeBits(0.1, per="site"), drawn), mean.sum())
    torch.testing.assert_close(penalty(FreeBits(9.0, per="site"), drawn), mean.new_tensor(9.0))
    torch.testing.assert_close(penalty(FreeBits(0.0), drawn), mean.sum())


def test_below_the_floor_there_is_no_gradient_and_above_it_the_kls():
    x = X.clone().requires_grad_()
    penalty(FreeBits(0.1), particles(x)).backward()
    free = X.clone().requires_grad_()
    kl_divergence(Normal(free[:, :2], free[:, 2:]), Normal(0.0, 1.0)).mean(0).sum().backward()
    assert torch.equal(x.grad[:, 0::2], torch.zeros(2, 2))
    torch.testing.assert_close(x.grad[:, 1::2], free.grad[:, 1::2])


def test_without_a_closed_form_the_dimensions_are_sampled(double):
    drawn = particles(X, 20_000, StudentGuide())
    sampled = kl_by_dimension(drawn, "z")
    assert sampled.shape == (20_000, 2, 2)
    torch.testing.assert_close(sampled.sum(-1), drawn.kl_sample("z"))
    loc, scale = X[:, :2], X[:, 2:]
    # KL = -entropy + E[z^2] / 2 + log(2 pi) / 2, and t of 6 degrees of freedom has the variance 6 / 4
    exact = -StudentT(6.0, loc, scale).entropy() + (loc**2 + 1.5 * scale**2 + math.log(2 * math.pi)) / 2
    error = sampled.std(0) / 20_000**0.5
    assert ((sampled.mean(0) - exact).abs() < SIGMAS * error).all()


def test_inner_plates_are_dimensions_too(double):
    pair, x = Pair(TimeModel(), TimeGuide()), torch.randn(6, 4)
    drawn = drawing.draw(pair.model, pair.guide, (x,), num_particles=2)
    by_dimension = kl_by_dimension(drawn, "h")
    assert by_dimension.shape == (2, 6, 4)
    torch.testing.assert_close(by_dimension.sum(-1), drawn.kl("h"))
    floor = by_dimension.mean((0, 1)).median()
    expected = by_dimension.mean((0, 1)).clamp_min(floor).sum()
    value = FreeBits(float(floor)).penalty("h", drawn, 6)(drawn)
    torch.testing.assert_close(value, expected)


def test_a_users_scale_counts(double):
    x = torch.randn(5, 2)
    plain, scaled = (drawing.draw(ChainModel(scale), ChainGuide(scale), (x,)) for scale in (None, 0.5))
    torch.testing.assert_close(
        kl_by_dimension(scaled, "top").sum(-1), 0.5 * kl_by_dimension(plain, "top").sum(-1)
    )


def test_a_discrete_site_with_a_closed_form_is_treated(double):
    drawn = drawing.draw(BernoulliModel(), BernoulliGuide(), (torch.randn(4),))
    torch.testing.assert_close(FreeBits(0.0).penalty("z", drawn, 4)(drawn), drawn.kl_closed_form("z").mean())


def test_sites_that_it_does_not_fit_are_refused():
    pair = Pair(make_pair().model, guides.FullRank(nets.MLPEncoder((5,), 3, hidden=())))
    drawn = drawing.draw(pair.model, pair.guide, (torch.randn(4, 5),))
    with pytest.raises(PairError, match=r"site 'z' do not both factorise.*FreeBits\(0.5, per='site'\)"):
        FreeBits(0.5).penalty("z", drawn, 4)
    assert FreeBits(0.5, per="site").penalty("z", drawn, 4)(drawn) >= 0.5
    drawn = drawing.draw(GlobalMeanModel(4), GlobalMeanGuide(4), (torch.randn(4),))
    with pytest.raises(PairError, match=r"site 'theta' is outside the plate 'data'.*\['z'\]"):
        FreeBits(0.5).penalty("theta", drawn, 4)


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: FreeBits(-1.0), r"nats must be a finite number >= 0, got -1"),
        (lambda: FreeBits(1.0, per="batch"), r"per must be 'dimension' or 'site', got 'batch'"),
    ],
)
def test_what_makes_no_sense_is_refused(make, fragment):
    with pytest.raises(ValueError, match=fragment):
        make()


def test_a_kl_that_looks_at_discrete_draws_is_refused():
    drawn = drawing.draw(DiscreteThenNormalModel(), DiscreteThenNormalGuide(), (torch.randn(4),))
    with pytest.raises(PairError, match=r"site 'z' depends on draws of \['c'\].*kl.Beta"):
        FreeBits(0.5).penalty("z", drawn, 4)
