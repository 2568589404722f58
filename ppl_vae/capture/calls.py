"""Calls: the arguments of a program, taken apart into the tensors that a graph reads and all the rest."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_vae.capture.errors import CaptureError

NUMBERS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, slice)


@dataclass(frozen=True)
class _Hole:
    """The place of a tensor among the rest."""

    number: int


Numbers = tuple[tuple[str, type, Any], ...]


class Call:
    """One call's arguments: tensors, in any lists, tuples and dictionaries, and numbers.

    Raises:
        CaptureError: for an argument of another type, and for a tensor that requires grad.

    Attributes:
        tensors: in a fixed order.
        shapes: what a graph takes for granted of the tensors, and how the arguments are nested.
        numbers: (name, type, value) of what is no tensor, which a graph has inside.
    """

    def __init__(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.tensors: list[Tensor] = []
        self._numbers: list[tuple[str, type, Any]] = []
        self._shapes: list[Any] = []
        positional = [self._take(value, f"argument {place}") for place, value in enumerate(args)]
        named = {name: self._take(value, name) for name, value in kwargs.items()}
        self._template = positional, named
        self.shapes = (len(positional), tuple(named), tuple(self._shapes))
        self.numbers: Numbers = tuple(self._numbers)

    def rebuild(self, tensors: Sequence[Tensor]) -> tuple[list[Any], dict[str, Any]]:
        """(args, kwargs) with other tensors in their places."""
        args, kwargs = self._template
        fill = functools.partial(_fill, tensors=tensors)
        return [fill(each) for each in args], {name: fill(each) for name, each in kwargs.items()}

    def _take(self, value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            if value.requires_grad or value.layout != torch.strided:
                what = "requires grad" if value.requires_grad else f"has the layout {value.layout}"
                raise CaptureError(f"{name} {what}, and no captured step has a place for that")
            self._shapes.append((value.shape, value.stride(), value.dtype, value.device))
            self.tensors.append(value)
            return _Hole(len(self.tensors) - 1)
        if isinstance(value, NUMBERS):
            self._numbers.append((name, type(value), _hashable(value)))
            return value
        if isinstance(value, list | tuple):
            parts = [self._take(each, f"{name}[{place}]") for place, each in enumerate(value)]
            self._shapes.append((type(value), len(parts)))
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        if isinstance(value, dict):
            self._shapes.append((type(value), tuple(value)))
            return {key: self._take(each, f"{name}[{key!r}]") for key, each in value.items()}
        raise CaptureError(
            f"{name} is a {type(value).__name__}; a captured step takes tensors, numbers, strings and None, "
            f"and lists, tuples and dictionaries of these"
        )


def changing(numbers: Iterable[Numbers]) -> list[str]:
    """The names of (name, type, value) whose values differ between some sequences of them."""
    seen: dict[str, set[Any]] = {}
    for each in numbers:
        for name, kind, value in each:
            seen.setdefault(name, set()).add((kind, value))
    return [name for name, values in seen.items() if len(values) > 1]


def _hashable(value: Any) -> Any:
    return (value.start, value.stop, value.step) if isinstance(value, slice) else value


def _fill(value: Any, tensors: Sequence[Tensor]) -> Any:
    if isinstance(value, _Hole):
        return tensors[value.number]
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, list | tuple):
        parts = [_fill(each, tensors) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {key: _fill(each, tensors) for key, each in value.items()}
    return value
