"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence

import torch
from pyro.optim import PyroOptim
from torch import Tensor

Schedule = Callable[[float], float]

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "sgd": torch.optim.SGD,
}


def check_optimizer(
    optimizer: str | Callable[..., torch.optim.Optimizer], weight_decay: float | None = None
) -> None:
    """Refuse what gives no optimizer, or would take no notice of an option.

    Raises:
        ValueError: for an unknown name, a function without `lr`, one that takes no `weight_decay` where there
            is one, or one that has either set already.
    """
    if isinstance(optimizer, torch.optim.Optimizer | PyroOptim):
        kind = f"{type(optimizer).__module__}.{type(optimizer).__name__}"
        raise ValueError(
            f"optimizer is an object of {kind}: give a name, one of {sorted(OPTIMIZERS)}, a class such as "
            f"torch.optim.RMSprop, or a function of (parameters, lr)"
        )
    if not callable(optimizer):
        if not isinstance(optimizer, str) or optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {optimizer!r}: the known ones are {sorted(OPTIMIZERS)}")
        return
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.LBFGS):
        raise ValueError(
            "torch.optim.LBFGS evaluates the loss several times a step, which fit does not offer"
        )
    name = getattr(optimizer, "__qualname__", repr(optimizer))
    preset = getattr(optimizer, "keywords", {})  # functools.partial's
    if "lr" in preset:
        raise ValueError(f"optimizer {name} sets lr={preset['lr']!r} itself: give fit learning_rate instead")
    if weight_decay is not None and "weight_decay" in preset:
        raise ValueError(
            f"weight_decay={weight_decay!r}, and optimizer {name} sets {preset['weight_decay']!r} itself: "
            "give one"
        )
    for option, given in (("lr", True), ("weight_decay", weight_decay is not None)):
        if given and not _takes(optimizer, option):
            raise ValueError(
                f"optimizer {name} has no argument {option!r}, so that it would be dropped: "
                + (
                    "write it as a function of (parameters, lr)"
                    if option == "lr"
                    else "leave weight_decay out"
                )
            )


def _takes(function: Callable[..., object], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C: the call itself will say
        return True
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def make_optimizer(
    optimizer: str | Callable[..., torch.optim.Optimizer],
    parameters: Sequence[Tensor],
    learning_rate: float,
    weight_decay: float | None = None,
) -> torch.optim.Optimizer:
    """A torch optimizer by name, fused where torch has it so, or from a function of (parameters, lr=...).

    A function gets `weight_decay` too where there is one; without, its own default holds, and 0 for a name.
    Groups of parameters that a function gives other learning rates keep their ratio under a schedule.

    Raises:
        ValueError: as `check_optimizer`; for a learning rate that is not positive, no parameters, and a
            function that gives no optimizer, one of other parameters than these, or one that takes no notice
            of `lr` or `weight_decay`.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate}")
    if not parameters:
        raise ValueError("the pair has no trainable parameters: every one is frozen, or there are none")
    check_optimizer(optimizer, weight_decay)
    if callable(optimizer):
        return _from_function(optimizer, parameters, learning_rate, weight_decay)
    options: dict[str, object] = {"lr": learning_rate, "weight_decay": weight_decay or 0.0}
    if optimizer != "adamax" and parameters[0].device.type in ("cpu", "cuda"):
        options["fused"] = True
    return OPTIMIZERS[optimizer](parameters, **options)


def _from_function(
    function: Callable[..., torch.optim.Optimizer],
    parameters: Sequence[Tensor],
    learning_rate: float,
    weight_decay: float | None,
) -> torch.optim.Optimizer:
    given = {} if weight_decay is None else {"weight_decay": weight_decay}
    made = function(parameters, lr=learning_rate, **given)
    if not isinstance(made, torch.optim.Optimizer):
        raise ValueError(f"the function given as optimizer must return a torch optimizer, got {made!r:.80}")
    _check_parameters(made, parameters)
    rates = [group.get("lr") for group in made.param_groups]
    if learning_rate not in rates:  # scaled ones would be others at another rate
        other = function(parameters, lr=learning_rate / 2, **given)
        if [group.get("lr") for group in other.param_groups] == rates:
            raise ValueError(
                f"learning_rate={learning_rate!r} does not reach the optimizer, which has {rates[0]!r}: pass "
                f"lr on in the function, and give fit learning_rate={rates[0]!r}"
            )
    decays = [group["weight_decay"] for group in made.param_groups if "weight_decay" in group]
    if weight_decay is not None and weight_decay not in decays:
        raise ValueError(
            f"weight_decay={weight_decay!r} does not reach the optimizer, which has "
            f"{decays[0] if decays else 'none'}: pass it on in the function, or leave it out"
        )
    for group in made.param_groups:
        if group["lr"] != learning_rate:
            group["lr_scale"] = float(group["lr"]) / learning_rate
    return made


def _check_parameters(made: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
    """Refuse an optimizer that would leave some of the parameters as they are, or move other ones."""
    held, wanted = (
        {id(each) for each in some}
        for some in ([each for group in made.param_groups for each in group["params"]], parameters)
    )
    if held != wanted:
        raise ValueError(
            f"the optimizer that the function made holds {len(held & wanted)} of the pair's {len(wanted)} "
            f"trainable parameters, and {len(held - wanted)} others: make it of those that the function is "
            f"given; what is not to be trained has requires_grad_(False)"
        )


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
        ValueError: for an unknown name, or a function whose values are no factors.
    """
    if not callable(schedule):
        if not isinstance(schedule, str) or schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {schedule!r}: the known ones are {sorted(SCHEDULES)}")
        return SCHEDULES[schedule]
    checked = functools.partial(_factor, schedule)
    for fraction in (0.0, 0.5, 1.0):
        checked(fraction)
    return checked


def _factor(schedule: Schedule, fraction: float) -> float:
    """A user's schedule as a number, wherever it is asked."""
    try:
        factor = float(schedule(fraction))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the schedule is no function of one number: schedule({fraction}): {error}"
        ) from error
    if not 0 <= factor < math.inf:
        raise ValueError(
            f"schedule({fraction}) must be a finite number >= 0, the learning rate's factor there, got "
            f"{factor!r}"
        )
    return factor
