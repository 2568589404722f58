"""Optimizers and schedules by name."""

from __future__ import annotations

import pyro
import pytest
import torch

from ppl_vae.train.optimizers import SCHEDULES, iwae, make_optimizer, make_schedule


def test_schedules_start_at_one():
    assert all(schedule(0.0) == 1.0 for schedule in SCHEDULES.values())
    assert SCHEDULES["cosine"](1.0) == pytest.approx(0.0)
    assert SCHEDULES["linear"](0.25) == 0.75


def test_the_stages_of_the_iwae_paper():
    rates = [iwae(epoch / 3280) for epoch in range(3280)]
    lengths = [sum(abs(rate - 10 ** (-i / 7)) < 1e-12 for rate in rates) for i in range(8)]
    assert lengths == [3**i for i in range(8)]


def test_adam_is_fused():
    assert make_optimizer("adam", [torch.nn.Parameter(torch.ones(1))], 1e-3).defaults["fused"]


def test_no_parameters_is_an_error():
    with pytest.raises(ValueError, match="no trainable parameters"):
        make_optimizer("adam", [], 1e-3)


def test_a_function_is_its_own_schedule():
    factor = make_schedule(lambda fraction: torch.tensor(1 - fraction / 2))
    assert factor(0.5) == 0.75
    assert type(factor(0.5)) is float  # as a run's metrics.csv has it


def test_a_schedule_is_asked_wherever_training_is():
    factor = make_schedule(lambda fraction: -1.0 if 0.2 < fraction < 0.3 else 1.0)
    assert factor(0.1) == 1.0
    with pytest.raises(ValueError, match=r"schedule\(0\.25\) must be a finite number >= 0.* got -1\.0"):
        factor(0.25)


def two() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda parameters, lr: torch.optim.SGD(two(), lr=lr), r"holds 0 of .* 2 .* and 2 others"),
        (lambda parameters, lr: torch.optim.SGD(parameters[:1], lr=lr), r"holds 1 of .* 2 .* and 0 others"),
        (lambda parameters, lr: torch.optim.SGD(parameters, lr=0.3), r"does not reach the optimizer.* 0\.3"),
        (torch.optim.SGD(two(), lr=0.1), r"an object of torch\.optim\.sgd\.SGD: give a name"),
        (pyro.optim.Adam({"lr": 0.1}), r"an object of pyro\.optim\.optim\.PyroOptim: give"),
    ],
)  # fmt: skip
def test_an_optimizer_that_would_train_something_else_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(function, two(), 0.1)


def test_groups_may_have_fractions_of_the_learning_rate():
    def halves(parameters, lr):
        return torch.optim.SGD([{"params": [each], "lr": lr / 2} for each in parameters], lr=lr)

    assert [group["lr_scale"] for group in make_optimizer(halves, two(), 0.1).param_groups] == [0.5, 0.5]
