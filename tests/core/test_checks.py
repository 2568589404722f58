"""Options of questions and evaluations: what is no such number is refused by its name."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch

from ppl_vae import Pair, compression, evaluate, guides, models, nets, queries
from ppl_vae.core.checks import checked

PUBLIC = [
    getattr(package, name)
    for package in (queries, evaluate, compression)
    for name in package.__all__
    if inspect.isfunction(getattr(package, name))
]
NUMBERS = {"int": ("3", 2.5, math.nan, True, 0 - 1, torch.tensor(3), np.array(3), [3]),
           "float": ("3", math.nan, math.inf, True, 10**400, torch.tensor(0.2), np.array(0.2), [0.5]),
           "bool": ("yes", 1, None, torch.tensor(True))}  # fmt: skip


def options(function):
    for parameter in inspect.signature(function).parameters.values():
        kind, _, none = parameter.annotation.partition(" | ")
        if kind in NUMBERS and parameter.name != "seed":
            yield parameter.name, kind, none


def test_every_option_of_every_public_function_is_checked_before_it_runs():
    found = [(function, *option) for function in PUBLIC for option in options(function)]
    assert len(found) > 80
    for function, name, kind, none in found:
        needed = {
            parameter.name: None
            for parameter in inspect.signature(function).parameters.values()
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }
        for value in NUMBERS[kind]:
            if not (value is None and none):
                with pytest.raises(ValueError, match=rf"^{name} must be"):
                    function(**{**needed, name: value})


def test_numbers_of_numpy_are_numbers_and_a_seed_is_looked_at_elsewhere():
    @checked(steps=2)
    def asked(pair, num: int, steps: int | None = None, *, size: float = 0.1, seed: int = 0) -> tuple:
        return pair, num, steps, size, seed

    assert asked("p", np.int64(1), size=np.float32(2), seed=-1) == ("p", 1, None, 2.0, -1)
    with pytest.raises(ValueError, match="steps must be a whole number >= 2 or None, got 1"):
        asked("p", 1, 1)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'num'"):
        asked("p")


def test_a_step_size_is_a_number_above_zero():
    """A tensor was written to by torch's schedule: the next batch began where this one had ended."""
    pair = Pair(models.LinearGaussian(2, 5), guides.MeanField(nets.MLPEncoder((5,), 2)))
    x = torch.zeros(2, 5)
    for value in (-1, 0.0):
        for ask in (
            lambda value=value: evaluate.inference_gap(pair, x, step_size=value),
            lambda value=value: evaluate.anomaly(pair, x, step_size=value),
        ):
            with pytest.raises(ValueError, match="step_size must be positive and finite"):
                ask()
