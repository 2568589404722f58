"""Questions under likelihoods of many families, against quadrature over their one latent number."""

from __future__ import annotations

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.distributions as plain
from torch import nn

import ppl_vae as pv
from ppl_vae import evaluate, likelihoods
from tests.conftest import SIGMAS

SLOPE, OFFSET = (0.9, -0.6, 0.4), (0.1, 0.2, -0.3)
GRID = torch.linspace(-8, 8, 801, dtype=torch.float64)
NUMBER, DRAWS = 5, 4000


def logits(e):
    favoured = 4.0 * (torch.arange(30) == 7)
    return 4 * e.unsqueeze(-1) * torch.linspace(-1, 1, 30).to(e) + favoured.to(e)


def four(e):
    return torch.full_like(e, 4.0)


# The same law of x by its three numbers e: what a model says, and what torch says of single numbers
FAMILIES = {
    "Beta": (
        lambda e: dist.Beta(1 + e.exp(), 1 + (-e).exp()).to_event(1),
        lambda e: plain.Beta(1 + e.exp(), 1 + (-e).exp()),
    ),
    "StudentT": (
        lambda e: dist.StudentT(four(e), e, 0.5).to_event(1),
        lambda e: plain.StudentT(four(e), e, 0.5),
    ),
    "Gamma": (
        lambda e: dist.Gamma(four(e), (-e).exp()).to_event(1),
        lambda e: plain.Gamma(four(e), (-e).exp()),
    ),
    "NegativeBinomial": (
        lambda e: dist.NegativeBinomial(four(e), logits=e).to_event(1),
        lambda e: plain.NegativeBinomial(four(e), logits=e),
    ),
    "LogNormal": (
        lambda e: dist.LogNormal(e, 0.5).to_event(1),
        lambda e: plain.LogNormal(e, 0.5),
    ),
    "Categorical": (lambda e: dist.Categorical(logits=logits(e)).to_event(1), None),
    "Mixed": (None, None),
}


class Columns(nn.Module):
    """A normal number, a class and a count, whose raw numbers are made of e."""

    def __init__(self) -> None:
        super().__init__()
        parts = (
            likelihoods.Gaussian(event_dim=1, num_columns=1),
            likelihoods.Categorical(3, event_dim=1),
            likelihoods.Poisson(event_dim=1),
        )
        self.mixed = likelihoods.Mixed(parts, columns=((0,), (1,), (2,)))

    def forward(self, e):
        first, second, third = e.unbind(-1)
        return self.mixed(torch.stack([first, 0 * second, second, -second, third], -1))


class Model(nn.Module):
    def __init__(self, family) -> None:
        super().__init__()
        self.family = family
        self.register_buffer("slope", torch.tensor(SLOPE, dtype=torch.float64))
        self.register_buffer("offset", torch.tensor(OFFSET, dtype=torch.float64))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(self.slope.new_zeros(1), 1.0).to_event(1))
            return pyro.sample("x", self.family(z * self.slope + self.offset), obs=x)


class Guide(nn.Module):
    """A little off every posterior, and wider than all of them."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.full((1,), 0.1, dtype=torch.float64), 1.1).to_event(1))


def asked(name):
    """A pair and data drawn from its model."""
    family = Columns() if name == "Mixed" else FAMILIES[name][0]
    pair = pv.Pair(Model(family), Guide())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        e = torch.randn(NUMBER, 1, dtype=torch.float64) * pair.model.slope + pair.model.offset
        x = family(e).sample()
    return pair, x


def on_the_grid(name, x):
    """log p(x_d | z), (S, B, 3), and E[x_d | z], (S, 1, 3), on the grid; of classes E is NaN."""
    e = GRID[:, None, None] * torch.tensor(SLOPE).double() + torch.tensor(OFFSET).double()
    if name == "Mixed":
        classes = torch.stack([0 * e[..., 1], e[..., 1], -e[..., 1]], -1)
        parts = (
            plain.Normal(e[..., 0], 1.0),
            plain.Categorical(logits=classes),
            plain.Poisson(e[..., 2].exp()),
        )
        densities = [part.log_prob(x[:, column]) for column, part in enumerate(parts)]
        return torch.stack(densities, -1), torch.stack([part.mean for part in parts], -1)
    single = plain.Categorical(logits=logits(e)) if name == "Categorical" else FAMILIES[name][1](e)
    return single.log_prob(x), single.mean


def exact(densities):
    """log p(x), (B,), and the posterior's weights on the grid, (S, B)."""
    joint = densities.sum(-1) + plain.Normal(0.0, 1.0).log_prob(GRID)[:, None]
    return joint.logsumexp(0) + (GRID[1] - GRID[0]).log(), joint.softmax(0)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_evidence_and_the_posterior(name):
    pair, x = asked(name)
    evidence, weights = exact(on_the_grid(name, x)[0])
    draws = pv.posterior(pair, x, method="importance", num_samples=DRAWS, progress=False)
    ess = torch.from_numpy(draws["sample_stats"]["ess"].to_numpy())
    weight = torch.from_numpy(draws["sample_stats"]["log_weight"].to_numpy())[0].exp()
    z = torch.from_numpy(draws["posterior"]["z"].to_numpy())[0, :, :, 0]
    mean = (weights * GRID[:, None]).sum(0)
    variance = (weights * (GRID[:, None] - mean).square()).sum(0)
    assert bool((((weight * z).sum(0) - mean).abs() < SIGMAS * (variance / ess).sqrt()).all())
    score = evaluate.anomaly(pair, x, num_particles=DRAWS).score
    assert bool(((score + evidence).abs() < SIGMAS * (1 / ess - 1 / DRAWS).sqrt()).all())


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_missing(name):
    """The first number of every datum, and the last two of the first one."""
    pair, x = asked(name)
    observed = torch.ones_like(x, dtype=torch.bool)
    observed[:, 0], observed[0] = False, torch.tensor([True, False, False])
    densities, means = on_the_grid(name, x)
    _, weights = exact(densities.where(observed, 0.0))
    found = pv.impute(
        pair, x, observed=observed, num_samples=500, num_proposals=DRAWS, progress=False, seed=1
    )
    assert torch.equal(found.draw[:, observed], x[observed].expand(500, -1))
    if name == "Categorical":  # the most frequent class
        probs = plain.Categorical(logits=logits(GRID[:, None] * SLOPE[0] + OFFSET[0])).probs
        probs = torch.einsum("sb,sc->bc", weights, probs.squeeze(1))
        best, second = probs.topk(2, -1).values.T
        sure = best - second > SIGMAS * (2 * best / 500).sqrt()
        assert bool(sure[1:].any())
        assert torch.equal(found.mean[1:, 0][sure[1:]].long(), probs.argmax(-1)[1:][sure[1:]])
        return
    mean = (weights.unsqueeze(-1) * means).sum(0)
    spread = (weights.unsqueeze(-1) * (means - mean).square()).sum(0)
    hidden = ~observed & ~mean.isnan()
    assert bool(((found.mean - mean).abs() < SIGMAS * (spread / (DRAWS / 8)).sqrt())[hidden].all())
    error = found.draw.std(0) / math.sqrt(500 / 2)
    assert bool(((found.draw.mean(0) - mean).abs() < SIGMAS * error)[hidden].all())


def test_a_mean_that_does_not_exist_is_said_to_be_none():
    pair = pv.Pair(Model(lambda e: dist.Cauchy(e, 0.5).to_event(1)), Guide())
    x = torch.zeros(2, 3, dtype=torch.float64)
    x[0, 1] = torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pv.impute(pair, x, num_samples=5, num_proposals=50, progress=False)
    assert bool(found.mean[0, 1].isnan())
    assert bool(found.mean[1].eq(0).all())
    assert bool(found.draw.isfinite().all())


def test_the_mean_of_one_hot_vectors_is_their_probabilities():
    """And no vector of the commonest number at each place, all zeros where no class has half."""

    def family(e):
        return dist.OneHotCategorical(probs=torch.tensor([0.4, 0.35, 0.25]).to(e)).expand(e.shape[:-1])

    pair = pv.Pair(Model(family), Guide())
    x = torch.eye(3, dtype=torch.float64)[:2]
    observed = torch.tensor([[False], [True]]).expand(2, 3)
    found = pv.impute(pair, x, observed=observed, num_samples=50, num_proposals=50, progress=False)
    torch.testing.assert_close(found.mean[0], torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64))
    assert torch.equal(found.draw.sum(-1), torch.ones(50, 2, dtype=torch.float64))
