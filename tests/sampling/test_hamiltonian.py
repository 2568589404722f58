"""Trajectories and annealing where the density is none: data with a hard edge."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_vae import Pair, evaluate
from ppl_vae.sampling.hamiltonian import State, move
from ppl_vae.sampling.metric import Metric

pytestmark = pytest.mark.usefixtures("double")


def test_a_chain_that_begins_where_there_is_no_density_leaves():
    """The uniform density on [0, 1], from beside it: none accepted before it is inside, and none back."""

    def density(points):
        inside = ((points > 0) & (points < 1)).all(-1)
        return torch.zeros(points.shape[:2]).masked_fill(~inside, -torch.inf), torch.zeros_like(points)

    torch.manual_seed(0)
    points = torch.full((200, 1, 1), 1.5)
    state = State(points, *density(points))
    metric, step = Metric(torch.ones(1, 1)), torch.full((1,), 0.5)
    for _ in range(60):
        state = move(density, state, metric, step, 3).state
    assert bool(((state.points > 0) & (state.points < 1)).all())
    assert abs(float(state.points.mean()) - 0.5) < 4.5 * math.sqrt(1 / 12 / 200)


def edge(x):
    """z ~ N(0, 1), x_d ~ U(z - 1, z + 1)."""
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0)).unsqueeze(-1)
        low, high = (z + each * torch.ones(2) for each in (-1, 1))
        pyro.sample("x", dist.Uniform(low, high, validate_args=False).to_event(1), obs=x)


def wide(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))


@pytest.mark.parametrize("start", ["guide", "prior"])
def test_annealing_says_that_data_are_impossible(start):
    """log p = log((Phi(x + 1) - Phi(x - 1)) / 4) of two values alike, and -inf of two that are 5 apart."""
    x = torch.tensor([[0.5, 0.5], [0.0, 5.0]])
    found = evaluate.log_likelihood(
        Pair(edge, wide),
        x,
        400,
        method="ais",
        num_temperatures=8,
        num_leapfrogs=2,
        start=start,
        progress=False,
    ).per_datum
    normal = dist.Normal(0.0, 1.0)
    share = float(normal.cdf(torch.tensor(1.5)) - normal.cdf(torch.tensor(-0.5)))
    error = math.sqrt((1 - share) / share / 400)
    assert abs(float(found[0]) - math.log(share / 4)) < 4.5 * error
    assert float(found[1]) == -math.inf
