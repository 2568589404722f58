"""Baselines and opposite draws by slice of an inner plate."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators
from ppl_vae.core import drawing
from tests.capture.helpers import assert_same_steps, sgd
from tests.core.test_downstream import SLICES, Given, Program, every_draw

pytestmark = pytest.mark.usefixtures("double")


def pair_of(kind="pixels"):
    return pv.Pair(Program("model", kind), Program("guide", kind))


def step(estimator, pair, x):
    loss = estimator.differentiable_loss(pair.model, pair.guide, x)
    return torch.autograd.grad(loss, pair.guide.p)[0]


@pytest.mark.parametrize("kind", ["pixels", "two"])
def test_there_is_an_average_for_each_slice(kind):
    pair, estimator, x = pair_of(kind), estimators.ScoreFunction(decay=0.0), torch.randn(6, SLICES)
    particles = estimator.draw(pair.model, pair.guide, x)
    estimator.surrogate(particles)
    rewards = [score.reward.mean((0, 2)) for score in estimator.scores(particles).values()]
    torch.testing.assert_close(estimator.average(), torch.cat(rewards))


def test_averages_are_saved_and_restored():
    pair, x = pair_of(), torch.randn(6, SLICES)
    estimator = estimators.ScoreFunction()
    step(estimator, pair, x)
    other = estimators.ScoreFunction()
    other.auxiliary.load_state_dict(estimator.auxiliary.state_dict())
    gradients = []
    for one in (estimator, other, copy.deepcopy(estimator)):
        torch.manual_seed(0)
        gradients.append(step(one, pair, x))
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])


@pytest.mark.parametrize("width", [1, SLICES])
def test_a_baseline_is_learned_for_each_datum_or_each_slice(width):
    pair = pair_of()
    estimator = estimators.NVIL(nn.Linear(SLICES, width), decay=0.9)
    optimizer = torch.optim.Adam(estimator.auxiliary.parameters(), lr=3e-2)
    x, left = torch.randn(64, SLICES), []
    for _ in range(200):
        optimizer.zero_grad()
        estimator.differentiable_loss(pair.model, pair.guide, x).backward()
        optimizer.step()
        left.append(estimator.square().sum().item())
    assert left[-1] < 0.9 * left[5]
    particles = estimator.draw(pair.model, pair.guide, x)
    assert estimator.average().shape == (SLICES,)
    assert estimator.surrogate(particles).shape == (64,)
    wrong = estimators.NVIL(nn.Linear(SLICES, 2))
    with pytest.raises(ValueError, match="or 3, one for each slice"):
        wrong.surrogate(particles)


@pytest.mark.parametrize(
    "make",
    [
        lambda: estimators.ScoreFunction(2),
        lambda: estimators.NVIL(nn.Linear(SLICES, SLICES), normalise=True),
        estimators.DisARM,
    ],
    ids=["ScoreFunction", "NVIL", "DisARM"],
)
@pytest.mark.parametrize("kind", ["pixels", "product"])
def test_the_captured_step_equals_the_written_one(kind, make):
    if make is not estimators.DisARM and kind == "product":
        return
    assert_same_steps(pair_of(kind), make(), [(torch.randn(4, SLICES),)], sgd, steps=3)


@pytest.mark.parametrize("make", [estimators.ARM, estimators.DisARM])
@pytest.mark.parametrize("kind", ["pixels", "product", "outside"])
def test_opposite_draws_by_slice_are_unbiased(kind, make):
    pair, x = pair_of(kind), torch.randn(1, SLICES)
    estimator, parameters = make(), list(pair.guide.parameters())[:2]
    chunks = []
    for _ in range(40):
        particles = estimator.draw(pair.model, pair.guide, x.expand(2000, -1))
        found = torch.autograd.grad(estimator.surrogate(particles).mean(), parameters)
        chunks.append(torch.cat([each.flatten() for each in found]))
    values, copies = every_draw(kind, x)
    particles = drawing.draw(pair.model, pair.guide, (copies,), guide_handler=Given(values))
    bound = (sum(particles.log_draw.values())[0].exp() * particles.log_weight[0]).sum()
    exact = torch.cat([each.flatten() for each in torch.autograd.grad(bound, parameters)])
    chunks = torch.stack(chunks)
    error = chunks.std(0) / len(chunks) ** 0.5
    assert ((chunks.mean(0) - exact).abs() < 6 * error + 1e-12).all()
