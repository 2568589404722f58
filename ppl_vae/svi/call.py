"""Calls: a program's arguments, of which a graph reads the tensors and takes the rest for granted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.capture.numbers import NUMBERS, Numbers, plain


class Call:
    """One call's arguments: tensors, in any lists, tuples and dictionaries, and numbers.

    Raises:
        CaptureError: for an argument of another type, and for a tensor that requires grad.

    Attributes:
        args, kwargs: as they were given.
        tensors: in a fixed order.
        shapes: what a graph takes for granted of the tensors, and how the arguments are nested.
        numbers: (name, type, value) of what is no tensor, which a graph has inside.
    """

    def __init__(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.args, self.kwargs = args, kwargs
        self.tensors: list[Tensor] = []
        self._numbers: list[tuple[str, type, Any]] = []
        self._shapes: list[Any] = []
        for place, value in enumerate(args):
            self._take(value, f"argument {place}")
        for name, value in kwargs.items():
            self._take(value, name)
        self.shapes = (len(args), tuple(kwargs), tuple(self._shapes))
        self.numbers: Numbers = tuple(self._numbers)

    def _take(self, value: Any, name: str) -> None:
        if isinstance(value, Tensor):
            if value.requires_grad or value.layout != torch.strided:
                what = "requires grad" if value.requires_grad else f"has the layout {value.layout}"
                raise CaptureError(f"{name} {what}, and no captured step has a place for that")
            if value.is_conj() or value.is_neg():
                raise CaptureError(
                    f"{name} is a conjugate, or negative, that is not computed yet, and no captured step has "
                    f"a place for that: give {name}.resolve_conj().resolve_neg()"
                )
            self._shapes.append((value.shape, value.stride(), value.dtype, value.device))
            self.tensors.append(value)
        elif isinstance(value, NUMBERS):
            self._numbers.append((name, type(value), plain(value)))
        elif isinstance(value, PackedSequence):
            raise CaptureError(
                f"{name} is a PackedSequence, whose lengths are values that a captured step does not see: "
                f"give the padded tensor and a mask"
            )
        elif isinstance(value, list | tuple | dict):
            items = value if isinstance(value, dict) else dict(enumerate(value))
            self._shapes.append((type(value), tuple(items)))
            for key, each in items.items():
                self._take(each, f"{name}[{key!r}]")
        else:
            raise CaptureError(
                f"{name} is a {type(value).__name__}; a captured step takes tensors, numbers, strings and "
                f"None, and lists, tuples and dictionaries of these"
            )
