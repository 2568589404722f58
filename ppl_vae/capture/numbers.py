"""Numbers, functions and other plain values of Python's: a graph has them inside, right for these alone."""

from __future__ import annotations

import types
from collections.abc import Hashable, Iterable, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils.weak import WeakIdKeyDictionary

from ppl_vae.capture.capture_error import CaptureError

NUMBERS: tuple[type, ...] = (type(None), bool, int, float, complex, str, bytes, np.number, np.bool_)
NUMBERS += (torch.dtype, torch.device, torch.Size, slice)
FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, partial)
_SERIAL: Any = WeakIdKeyDictionary()  # the number of an object: no other ever has it
_next_serial = count().__next__
_DEEP = 3
_CALLED = (types.BuiltinFunctionType, types.MethodType)
_NO_OBJECTS = (type(None), type, types.ModuleType)  # of which a function may be besides of an object
_OF_ANY = frozenset(vars(torch.nn.Module()))  # what every module has
REPAID = 5000
"""After so many steps a graph has been worth its compilation, twice."""
LAYOUT = "which tensors and modules there are"

Numbers = tuple[tuple[str, type, Any], ...]


def changing(numbers: Iterable[Numbers]) -> list[str]:
    """The names of (name, type, value) whose values differ between some sequences of them."""
    seen: dict[str, set[Any]] = {}
    for each in numbers:
        for name, kind, value in each:
            seen.setdefault(name, set()).add((kind, value))
    return [name for name, values in seen.items() if len(values) > 1]


def check_changing(numbers: Sequence[Numbers], most: int, steps: int) -> None:
    """Raise CaptureError where more than `most` graphs, each of few steps, would be made for what changes."""
    if len(numbers) > most and steps < REPAID * len(numbers) and (names := changing(numbers)):
        raise CaptureError(
            f"{', '.join(names)} keeps changing, and each value would need a graph of its own: keep it as it "
            "is; a number should be a 0-d tensor that is an argument or a buffer, changed in place"
        )


def is_plain(value: Any) -> bool:
    """Whether it is a number, a function, or a tuple of numbers."""
    several = isinstance(value, tuple) and all(isinstance(each, NUMBERS) for each in value)
    return several or isinstance(value, (*NUMBERS, *FUNCTIONS))


def plain(value: Any) -> Hashable:
    """A number as a part of a key: 0.0 is another one than -0.0, and nan the same as itself."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, slice):
        return value.start, value.stop, value.step
    if isinstance(value, tuple):
        return tuple([(type(each), plain(each)) for each in value])
    return repr(value) if isinstance(value, float | complex) and (value == 0 or value != value) else value


def as_key(value: Any) -> Hashable:
    """What `is_plain`, as a part of a key; what no longer is, as none."""
    if isinstance(value, FUNCTIONS):
        return of_function(value)
    return plain(value) if is_plain(value) else "no number"


def kind_of(module: torch.nn.Module) -> Hashable:
    """What tells a module from others: its class, where all that it has is looked at besides; else itself."""
    own = [value for key, value in vars(module).items() if key not in _OF_ANY]
    lists = [tuple(each) for each in own if type(each) is list]
    others = [each for each in own if type(each) is not list and not isinstance(each, torch.Tensor)]
    if all(map(is_plain, (*others, *lists))):
        return serial_of(type(module)), *map(plain, lists)
    return serial_of(module)


def of_function(function: Any, deep: int = 0) -> Hashable:
    """A function as a part of a key: one that is made anew, of the same lines and numbers, is the same.

    Other objects that it has, such as tensors, are left to comparisons.
    """
    if isinstance(function, NUMBERS):
        return type(function), plain(function)
    if isinstance(function, partial):
        places, given = len(function.args), function.keywords
        values: tuple[Any, ...] = function.func, places, *function.args, *given, *given.values()
    elif deep < _DEEP and not isinstance(getattr(function, "__self__", None), _NO_OBJECTS):
        values = function.__self__, getattr(function, "__func__", None) or function.__name__
    elif isinstance(function, types.FunctionType) and deep < _DEEP:
        defaults = *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()
        values = function.__code__, *enclosed(function), *defaults
    elif isinstance(function, (torch.nn.Module, types.CodeType, *_CALLED)):
        return serial_of(function)
    else:
        return type(function).__qualname__
    return tuple([of_function(each, deep + 1) for each in values])


def enclosed(function: Any) -> list[Any]:
    """What a function has from the functions around it, which may give it other values at any time."""
    cells = getattr(function, "__closure__", None) or ()
    return [cell.cell_contents for cell in cells if cell != types.CellType()]


def serial_of(thing: Any) -> Hashable:
    """A number that no other object ever has; for what takes no weak references, where it lies."""
    if isinstance(thing, types.MethodType):
        return serial_of(thing.__self__), serial_of(thing.__func__)
    try:
        return int(_SERIAL.setdefault(thing, _next_serial()))
    except TypeError:
        return id(thing)
