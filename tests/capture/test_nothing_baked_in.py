"""What changes between two steps is seen by the second one, captured or not."""

from __future__ import annotations

import copy

import pyro
import pytest
import torch

from ppl_vae import data, estimators, kl
from ppl_vae.kl import KLPlan
from ppl_vae.train.objective import Objective
from ppl_vae.train.step import Step
from tests.capture.helpers import (
    adam,
    captured_step,
    difference,
    images,
    seeded,
    vae,
)


@pytest.fixture
def running():
    """A captured step that has run once, its pair, its optimizer and a batch."""
    pair, x = vae(torch.float64), images(dtype=torch.float64)
    optimizer = adam(pair)
    captured = captured_step(pair, estimators.ELBO(), optimizer)
    captured(x)
    return captured, pair, optimizer, x


def test_another_learning_rate_is_seen(running):
    captured, pair, optimizer, x = running
    before = copy.deepcopy(pair.state_dict())
    optimizer.param_groups[0]["lr"] = 0.0
    captured(x)
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    optimizer.param_groups[0]["lr"] = 1e-3
    captured(x)
    assert not all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    assert len(captured._graphs) == 1


def test_another_kl_weight_is_seen():
    pair, x = vae(torch.float64), images(dtype=torch.float64)
    step = Step(pair, estimators.ELBO(), torch.optim.SGD(pair.parameters(), lr=0.0), capture=True)
    step.captured.backend, step.captured.same_noise = "graph", True
    losses = []
    for weight in (1.0, 0.0, 3.0):
        step.set_kl_weight({"z": weight})
        losses.append(seeded(step, x))
    divergence = losses[0] - losses[1]
    assert abs(divergence) > 1e-3
    assert losses[2] == pytest.approx(losses[1] + 3 * divergence, rel=1e-10)
    assert len(step.captured._graphs) == 1


def test_a_rising_capacity_is_seen():
    pair, x = vae(torch.float64), images(dtype=torch.float64)
    schedule = KLPlan(kl.Capacity(target=5.0, epochs=10, gamma=2.0), ("z",), 20)
    example = estimators.ELBO().draw(pair.model, pair.guide, x)
    schedule.make_penalties(example, len(x))
    still = torch.optim.SGD(pair.parameters(), lr=0.0)
    both = [Step(pair, estimators.ELBO(), still, kl=schedule, capture=capture) for capture in (False, True)]
    both[1].captured.backend, both[1].captured.same_noise = "graph", True
    for epoch in (0.0, 5.0):
        losses = []
        for step in both:
            step.set_epoch(epoch)
            losses.append(seeded(step, x))
        assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_another_batch_is_seen(running):
    captured, _, optimizer, x = running
    optimizer.param_groups[0]["lr"] = 0.0
    assert seeded(captured, x) == seeded(captured, x)
    assert seeded(captured, x) != seeded(captured, 1 - x)


def test_another_data_set_is_seen(running):
    captured, _, optimizer, x = running
    optimizer.param_groups[0]["lr"] = 0.0
    index = torch.arange(4)
    first, second = (data.Split.from_tensor(part) for part in (x, 1 - x))
    assert seeded(captured.on, first, index) != seeded(captured.on, second, index)
    assert seeded(captured.on, second, index) == pytest.approx(seeded(captured, 1 - x[:4]), rel=1e-12)


def test_reloaded_weights_and_optimizer_are_seen(running):
    captured, pair, optimizer, x = running
    weights, state = copy.deepcopy(pair.state_dict()), copy.deepcopy(optimizer.state_dict())
    first = [seeded(captured, x) for _ in range(3)]
    pair.load_state_dict(weights)
    optimizer.load_state_dict(state)
    assert [seeded(captured, x) for _ in range(3)] == first
    assert len(captured._graphs) == 1
    with torch.no_grad():
        pair.model.decoder.output_bias.data = pair.model.decoder.output_bias.data + 1
    assert seeded(captured, x) != first[-1]


def test_modes_and_frozen_parameters_are_seen():
    pair, x = vae(torch.float64, dropout=0.5), images(dtype=torch.float64)
    captured = captured_step(pair, estimators.ELBO(), torch.optim.SGD(pair.parameters(), lr=0.1))
    captured(x)
    pair.eval()
    with torch.no_grad(), pyro.validation_enabled(False):
        torch.manual_seed(11)
        expected = Objective(pair, estimators.ELBO())(x)[0].item()
    assert seeded(captured, x) == pytest.approx(expected, rel=1e-10)
    pair.model.requires_grad_(False)
    before = copy.deepcopy(pair.state_dict())
    captured(x)
    moved = [name for name, value in pair.state_dict().items() if not torch.equal(value, before[name])]
    assert moved
    assert all(name.startswith("guide.") for name in moved)


def test_a_frozen_parameter_can_be_freed():
    pair, x = vae(), images()
    pair.model.requires_grad_(False)
    captured = captured_step(pair, estimators.ELBO(), adam(pair))
    captured(x)
    pair.model.requires_grad_(True)
    before = pair.model.decoder.output_bias.detach().clone()
    captured(x)
    assert not torch.equal(pair.model.decoder.output_bias, before)


def test_eager_and_captured_steps_mix():
    x = images(dtype=torch.float64)
    pair = vae(torch.float64)
    other = copy.deepcopy(pair)
    eager, mixed = adam(pair), adam(other)
    plain = Step(pair, estimators.ELBO(), eager)
    runs = [Step(other, estimators.ELBO(), mixed), captured_step(other, estimators.ELBO(), mixed)]
    for number in range(6):
        assert seeded(plain, x) == pytest.approx(seeded(runs[number % 2], x), rel=1e-10)
    assert difference(pair, other) < 1e-10
    for one, two in zip(eager.state.values(), mixed.state.values(), strict=True):
        assert one["step"] == two["step"] == 6
