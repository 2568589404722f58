"""Optimizers and schedules by name."""

from __future__ import annotations

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
    assert make_schedule(abs) is abs
