"""Holes: none where the aggregate posterior is the prior, and a share that is known where it is not."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import evaluate, guides, models, nets
from tests.evaluate.programs import GlobalGuide, GlobalModel, TimeGuide, TimeModel
from tests.programs import BernoulliGuide, BernoulliModel


class Half(nn.Module):
    """A prior of two bumps, and data that fill the one at +3: z is x, but for a little noise."""

    def __init__(self, latent_dim=2, role="model"):
        super().__init__()
        self.latent_dim, self.role = latent_dim, role

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            if self.role == "guide":
                pyro.sample("z", dist.Normal(x, 0.1).to_event(1))
                return
            loc = torch.zeros(2, self.latent_dim)
            loc[:, 0] = torch.tensor([-3.0, 3.0])
            z = pyro.sample(
                "z",
                dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(loc, 1.0).to_event(1)),
            )
            pyro.sample("x", dist.Normal(z, 0.1).to_event(1), obs=x)


def half(latent_dim=2):
    x = torch.randn(1500, latent_dim)
    x[:, 0] += 3
    return pv.Pair(Half(latent_dim), Half(latent_dim, "guide"), example=(x,)), x


def exact(n=3000):
    """A pair whose guide is the posterior and whose data are the model's: q(z) = p(z) in expectation."""
    model = models.LinearGaussian(2, 3, noise=0.5)
    guide = guides.FullRank(nets.MLPEncoder((3,), 2, hidden=()))
    from tests.oracle import set_exact

    set_exact(guide, model)
    pair = pv.Pair(model, guide, example=(torch.zeros(1, 3),))
    return pair, pv.sample(pair, n, seed=5).value


@pytest.mark.parametrize("level", [0.01, 0.2])
def test_there_are_none_where_the_aggregate_is_the_prior(level):
    pair, x = exact()
    found = evaluate.holes(pair, x, level=level, num_draws=3000)
    # the draws of the prior, and the half of the codes that the threshold is a quantile of
    error = math.sqrt(level * (1 - level) * (1 / 3000 + 1 / 1500))
    assert abs(found.share - level) < 4.5 * error
    assert found.share == found.in_hole.double().mean()


def test_half_of_the_prior_is_empty():
    pair, x = half()
    found = evaluate.holes(pair, x)
    assert abs(found.share - 0.5) < 0.03
    assert (found.draws[found.in_hole, 0] < 0).double().mean() > 0.97
    assert ((found.draws[:, 0] < -1) & ~found.in_hole).sum() == 0
    assert "in holes" in str(found)
    assert "% were q(z) = p(z)" in str(found)


def test_the_densities_are_those_of_prior_and_aggregate():
    pair, x = half()
    found = evaluate.holes(pair, x)
    places = torch.cartesian_prod(*found.grid).view(100, 100, 2)
    bumps = [
        torch.distributions.Normal(torch.tensor([m, 0.0]), 1.0).log_prob(places).sum(-1) for m in (-3.0, 3.0)
    ]
    prior = torch.stack(bumps).logsumexp(0) - math.log(2)
    for ours, truth in ((found.log_prior, prior), (found.log_aggregate, bumps[1])):
        likely = truth > truth.max() - 2
        assert (ours - truth)[likely].abs().mean() < 0.15
    cell = math.prod(float(axis[1] - axis[0]) for axis in found.grid)
    assert float(found.log_prior.exp().sum() * cell) == pytest.approx(1.0, abs=0.03)


def test_it_looks_at_the_dimensions_that_move():
    pair, x = half(4)
    scaled = x * torch.tensor([1.0, 0.1, 0.2, 1.0])
    found = evaluate.holes(pair, scaled, num_draws=500)
    assert (found.site, found.dims) == ("z", (0, 3))
    assert found.codes.shape == (500, 2)
    assert found.num_data == 1500
    # a code belongs to the datum that it says
    assert (found.codes - scaled[found.datum][:, [0, 3]]).abs().max() < 0.6
    assert evaluate.holes(pair, scaled, dims=(2, 1), num_draws=500).dims == (2, 1)


def test_few_data_are_encoded_several_times():
    pair, x = half()
    found = evaluate.holes(pair, x[:30], num_draws=300)
    assert found.codes.shape == (300, 2)
    assert found.datum.bincount().tolist() == [10] * 30
    assert len(found.draws) == 300


def test_it_leaves_no_trace_and_repeats_itself():
    pair, x = half()
    state = torch.get_rng_state()
    first, second = (evaluate.holes(pair, x[:200], num_draws=200) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.codes, second.codes)
    assert first.share == second.share
    assert pair.training


def test_mistakes():
    pair, x = half(3)
    for options, message in (
        ({"level": 0.0}, "level must be between 0 and 1, got 0.0"),
        ({"dims": (0, 3)}, r"two different numbers in 0 ... 2, got \(0, 3\)"),
        ({"dims": (1, 1)}, r"got \(1, 1\)"),
        ({"site": "w"}, r"latent sites \['z'\]: not 'w'"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate.holes(pair, x, num_draws=100, **options)
    with pytest.raises(ValueError, match="needs 20 data or more, got 19"):
        evaluate.holes(pair, x[:19])
    with pytest.raises(TypeError, match=r"Pair\(model, guide\)"):
        evaluate.holes(pair.model, x)


@pytest.mark.parametrize(
    ("programs", "options", "message"),
    [
        ((TimeModel, TimeGuide), {}, r"latent sites \['z', 'h'\]: say which one"),
        ((TimeModel, TimeGuide), {"site": "h"}, r"site 'h'.*its draws are \(4, 40\)"),
        ((GlobalModel, GlobalGuide), {"site": "mean"}, r"site 'mean'.*its draws are \(\)"),
    ],
    ids=["several", "inner plate", "global"],
)
def test_sites_without_a_plane(programs, options, message):
    model, guide = programs
    x = torch.randn(40, 4) if model is TimeModel else torch.randn(40)
    with pytest.raises(ValueError, match=message):
        evaluate.holes(pv.Pair(model(), guide(), example=(x,)), x, num_draws=40, **options)


def test_discrete_latents_have_no_density():
    pair, x = pv.Pair(BernoulliModel(), BernoulliGuide()), torch.randn(40)
    found = pv.encode(pair, x)
    assert found.latent.shape == (40, 2)
    with pytest.raises(ValueError, match="is discrete"):
        evaluate.holes(pair, x, num_draws=40)
