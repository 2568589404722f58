"""Numbers and other plain values of Python's: a graph has them inside and is right for these alone."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ppl_vae.capture.capture_error import CaptureError

NUMBERS: tuple[type, ...] = (type(None), bool, int, float, complex, str, bytes, np.number, np.bool_)
NUMBERS += (torch.dtype, torch.device, torch.Size, slice)

Numbers = tuple[tuple[str, type, Any], ...]


def changing(numbers: Iterable[Numbers]) -> list[str]:
    """The names of (name, type, value) whose values differ between some sequences of them."""
    seen: dict[str, set[Any]] = {}
    for each in numbers:
        for name, kind, value in each:
            seen.setdefault(name, set()).add((kind, value))
    return [name for name, values in seen.items() if len(values) > 1]


def check_changing(numbers: Sequence[Numbers], most: int) -> None:
    """Raise CaptureError where graph after graph would be made for numbers that keep changing."""
    if len(numbers) > most and (names := changing(numbers)):
        raise CaptureError(
            f"{', '.join(names)} keeps changing, and each value would need a graph of its own: make it a 0-d "
            f"tensor that is an argument or a buffer, changed in place"
        )


def plain(value: Any) -> Hashable:
    """A number as a part of a key: 0.0 is another one than -0.0, and nan the same as itself."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, slice):
        return value.start, value.stop, value.step
    return repr(value) if isinstance(value, float | complex) and (value == 0 or value != value) else value
