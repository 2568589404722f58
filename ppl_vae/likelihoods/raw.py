"""The layout of a decoder's raw output, and positive parameters that are fixed, learned or per output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ppl_vae.nets.scale import at_least_float32, positive_scale

Option = float | Literal["learned", "per_output"]


def check_event_dim(name: str, event_dim: int) -> None:
    """Refuse an event_dim that leaves no dim to stack the parameters along."""
    if isinstance(event_dim, bool) or not isinstance(event_dim, int) or event_dim < 1:
        raise ValueError(
            f"likelihoods.{name}: event_dim must be a positive integer (3 for images, 1 for vectors), "
            f"got {event_dim!r}"
        )


def stacked_shape(name: str, shape: Sequence[int], parameters: int, event_dim: int) -> tuple[int, ...]:
    """The event shape of the raw output: `parameters` times as many channels as the data."""
    if len(shape) != event_dim:
        raise ValueError(
            f"likelihoods.{name}: the event shape {tuple(shape)} has {len(shape)} dims, expected "
            f"event_dim={event_dim}: build it as likelihoods.{name}(..., event_dim={len(shape)})"
        )
    return (parameters * shape[0], *shape[1:])


def _check_dims(name: str, raw: Tensor, event_dim: int) -> None:
    if raw.dim() < event_dim:
        raise ValueError(
            f"likelihoods.{name}: raw output of shape {tuple(raw.shape)} has fewer dims than "
            f"event_dim={event_dim}: build the likelihood with event_dim=1 for vectors"
        )


def split(name: str, raw: Tensor, parameters: int, event_dim: int) -> Tensor:
    """Bring the parameters of each output to a dim of their own, left of the event dims.

    `(*batch, P * C, ...)` becomes `(*batch, P, C, ...)`, float32 or wider.

    Raises:
        ValueError: if there are too few dims, or if the first event dim is not divisible by P.
    """
    _check_dims(name, raw, event_dim)
    channels = raw.shape[-event_dim]
    if channels % parameters:
        raise ValueError(
            f"likelihoods.{name}: raw output of shape {tuple(raw.shape)} has {channels} channels at dim "
            f"{-event_dim}, which {parameters} parameters per output do not divide: build the decoder "
            "with shape=likelihood.raw_shape(data_shape)"
        )
    return at_least_float32(raw).unflatten(-event_dim, (parameters, channels // parameters))


def single(name: str, raw: Tensor, event_dim: int) -> Tensor:
    """The raw output of a likelihood with one parameter per output: the tensor itself, at least float32.

    Raises:
        ValueError: if there are too few dims.
    """
    _check_dims(name, raw, event_dim)
    return at_least_float32(raw)


def check_option(name: str, argument: str, option: Option, floor: float, cap: float) -> None:
    """Refuse anything but a positive number, "learned" or "per_output"; and an impossible range."""
    number = isinstance(option, int | float) and not isinstance(option, bool)
    if not (option in ("learned", "per_output") or (number and 0 < float(option) < float("inf"))):
        raise ValueError(
            f"likelihoods.{name}: {argument} must be a positive number, 'learned' or 'per_output', "
            f"got {option!r}"
        )
    if not 0 < floor < 1 < cap < float("inf"):
        raise ValueError(
            f"likelihoods.{name}: needs 0 < min_{argument} < 1 < max_{argument} < infinity "
            f"(training starts at 1), got {floor!r} and {cap!r}"
        )


def check_num_columns(name: str, num_columns: int, event_dim: int) -> None:
    """Refuse a number of columns that is none, or columns of what is no vector."""
    if isinstance(num_columns, bool) or not isinstance(num_columns, int) or num_columns < 1:
        raise ValueError(f"likelihoods.{name}: num_columns must be a positive integer, got {num_columns!r}")
    if num_columns > 1 and event_dim != 1:
        raise ValueError(
            f"likelihoods.{name}: num_columns={num_columns} is for vectors, and event_dim is {event_dim}: "
            "build it with event_dim=1, or leave num_columns out"
        )


def learned(option: Option, num_columns: int = 1) -> nn.Parameter | None:
    """The unconstrained number behind a "learned" option, or one for each column; None for the others."""
    size = (num_columns,) if num_columns > 1 else ()
    return nn.Parameter(torch.zeros(size)) if option == "learned" else None


def check_columns(name: str, raw: Tensor, parameter: Tensor, of_columns: int = 1) -> None:
    """Raise ValueError where learned parameters, one for each column, meet another number of columns."""
    if parameter.dim() == of_columns and raw.shape[-1] != parameter.shape[0]:
        raise ValueError(
            f"likelihoods.{name}: a datum of {raw.shape[-1]} columns, and num_columns={parameter.shape[0]} "
            f"were built: give num_columns={raw.shape[-1]}, or 1 for one parameter for all"
        )


def locate(
    name: str,
    raw: Tensor,
    option: Option,
    parameter: Tensor | None,
    floor: float,
    cap: float,
    event_dim: int,
) -> tuple[Tensor, Tensor]:
    """Split a raw output into the first parameter, still raw, and a positive second one.

    The positive one broadcasts against the first: it has no dims unless it is per output or per column.
    """
    if option == "per_output":
        first, second = split(name, raw, 2, event_dim).unbind(-event_dim - 1)
        return first, positive_scale(second, floor, cap)
    first = single(name, raw, event_dim)
    if parameter is not None:
        check_columns(name, first, parameter)
        return first, positive_scale(parameter, floor, cap).to(first.dtype)
    return first, first.new_tensor(float(option))


def with_neutral(bias: Tensor, option: Option, event_dim: int) -> Tensor:
    """Append the raw value 0, which stands for 1, for a parameter per output."""
    if option != "per_output":
        return bias
    return torch.cat([bias, torch.zeros_like(bias)], dim=-event_dim)


def compact(expanded: Tensor) -> Tensor:
    """Undo `expand`: a view with size 1 where a tensor repeats itself.

    Distributions expand all their parameters to one shape, after which the logarithm of one shared
    scale would be computed once for every pixel of every particle.
    """
    index = tuple(slice(0, 1) if step == 0 else slice(None) for step in expanded.stride())
    return expanded[index]


def solve_increasing(function: Callable[[Tensor], Tensor], target: Tensor, low: float, high: float) -> Tensor:
    """Bisect an elementwise increasing function in float64: the argument at which it is `target`."""
    target = target.double()
    lower, upper = torch.full_like(target, low), torch.full_like(target, high)
    for _ in range(60):
        middle = (lower + upper) / 2
        below = function(middle) < target
        lower, upper = torch.where(below, middle, lower), torch.where(below, upper, middle)
    return (lower + upper) / 2
