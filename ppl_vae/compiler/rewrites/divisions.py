"""Divisions whose quotients are rounded, with ATen's rules: Inductor has others for them.

It takes the floor of a quotient that is rounded already, which is one too many just below a whole number, and
divides integers towards zero without a look at the divisor: a zero ends the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

_HALVES = (torch.float16, torch.bfloat16)
Operand = Tensor | float


def divide(a: Operand, b: Operand, *, rounding_mode: str | None = None) -> Any:
    """a / b, rounded as the mode says."""
    if rounding_mode == "floor":
        return floor_divide(a, b)
    kind = torch.result_type(a, b)
    if rounding_mode != "trunc" or kind.is_floating_point or kind == torch.bool:
        return NotImplemented
    down = torch.floor_divide(a, b)  # of integers, which looks at b
    return (down + ((down < 0) & (down * b != a))).to(kind)


def floor_divide(a: Operand, b: Operand) -> Any:
    """The floor of a / b, of floating-point numbers."""
    kind = torch.result_type(a, b)
    if not kind.is_floating_point:
        return NotImplemented
    a, b = _alike(a, b)
    rest = torch.fmod(a, b)
    quotient = (a - rest) / b
    quotient = torch.where(_across(rest, b), quotient - 1, quotient)
    down = quotient.floor()
    down = torch.where(quotient - down > 0.5, down + 1, down)
    whole = a / b
    down = torch.where(quotient == 0, torch.copysign(torch.zeros_like(whole), whole), down)
    return torch.where(b == 0, whole, down).to(kind)


def remainder(a: Operand, b: Operand) -> Any:
    """What the floor of a / b leaves of a, of floating-point numbers."""
    kind = torch.result_type(a, b)
    if not kind.is_floating_point:
        return NotImplemented
    a, b = _alike(a, b)
    rest = torch.fmod(a, b)
    return torch.where(_across(rest, b), rest + b, rest).to(kind)


def _alike(a: Operand, b: Operand) -> list[Tensor]:
    """Both in the type that ATen computes in."""
    kind = torch.result_type(a, b)
    kind = torch.float32 if kind in _HALVES else kind
    device = next(each.device for each in (a, b) if isinstance(each, Tensor))
    return [
        each.to(kind) if isinstance(each, Tensor) else torch.full((), each, dtype=kind, device=device)
        for each in (a, b)
    ]


def _across(rest: Tensor, b: Tensor) -> Tensor:
    """Whether what is left is on the other side of 0 than the divisor."""
    return (rest != 0) & ((rest < 0) != (b < 0))


def operators() -> dict[Any, Callable[..., Any]]:
    """What `make_fx` puts in place of torch's divisions."""
    table: dict[Any, Callable[..., Any]] = {}
    for name, formula in (("div", divide), ("floor_divide", floor_divide), ("remainder", remainder)):
        for packet, make in ((name, formula), (f"{name}_", _into(formula))):
            found = getattr(aten, packet)
            overloads = [each for each in found.overloads() if "out" not in each]
            table |= {getattr(found, each): make for each in overloads if name != "div" or "mode" in each}
    return table


def _into(formula: Callable[..., Any]) -> Callable[..., Any]:
    """The formula of which the result replaces the dividend."""

    def replace(a: Tensor, b: Operand, **options: Any) -> Any:
        found = formula(a, b, **options)
        return found if found is NotImplemented else a.copy_(found)

    return replace
