"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Schedule = Callable[[float], float]

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "sgd": torch.optim.SGD,
}


def make_optimizer(
    optimizer: str | Callable[..., torch.optim.Optimizer],
    parameters: Sequence[Tensor],
    learning_rate: float,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """A torch optimizer by name, fused where torch has it so, or from a function of (parameters, lr=...).

    Raises:
        ValueError: for an unknown name, a learning rate that is not positive, no parameters.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate}")
    if not parameters:
        raise ValueError("the pair has no trainable parameters: every one is frozen, or there are none")
    if callable(optimizer):
        return optimizer(parameters, lr=learning_rate)
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}: the known ones are {sorted(OPTIMIZERS)}")
    options: dict[str, object] = {"lr": learning_rate, "weight_decay": weight_decay}
    if optimizer != "adamax" and parameters[0].device.type in ("cpu", "cuda"):
        options["fused"] = True
    return OPTIMIZERS[optimizer](parameters, **options)


def iwae(fraction: float) -> float:
    """The eight stages of Burda et al. (arXiv:1509.00519): 3^i of 3,280 parts at 10^(-i/7), i = 0..7."""
    stage = sum(fraction * 3280 >= (3 ** (i + 1) - 1) // 2 for i in range(7))
    return 10 ** (-stage / 7)


SCHEDULES: dict[str, Schedule] = {
    "constant": lambda fraction: 1.0,
    "cosine": lambda fraction: 0.5 * (1 + math.cos(math.pi * fraction)),
    "linear": lambda fraction: 1.0 - fraction,
    "iwae": iwae,
}


def make_schedule(schedule: str | Schedule) -> Schedule:
    """The learning rate's factor as a function of the training's fraction in [0, 1].

    Raises:
        ValueError: for an unknown name.
    """
    if callable(schedule):
        return schedule
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}: the known ones are {sorted(SCHEDULES)}")
    return SCHEDULES[schedule]
