"""Functions, classes and objects of Python: what of them a program's meaning depends on."""

from __future__ import annotations

import argparse
import dis
import functools
import sys
import types
from collections.abc import Iterator
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.poutine.messenger import Messenger
from torch import nn

_LIBRARIES = frozenset(sys.stdlib_module_names - {"__main__"}) | {"torch", "pyro", "numpy", "ppl_vae"}
_WALKED = (Messenger, torch.distributions.Distribution, torch.distributions.Transform, ELBO)
_SPACES = (argparse.Namespace, types.SimpleNamespace)


class Same:
    """A thing that equals itself alone, and is kept, so that no other gets its `id`."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self._thing is other._thing

    def __hash__(self) -> int:
        return id(self._thing)


class Cell:
    """A closure's cell as a place like others: `owner[key]`."""

    def __init__(self, cell: Any) -> None:
        self._cell = cell

    def __getitem__(self, key: str) -> Any:
        try:
            return self._cell.cell_contents
        except ValueError as error:
            raise KeyError(key) from error

    def __setitem__(self, key: str, value: Any) -> None:
        self._cell.cell_contents = value


@functools.cache
def globals_of(code: types.CodeType) -> tuple[str, ...]:
    """The globals that a function, or one defined within it, names."""
    names = [
        step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    ]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += globals_of(constant)
    return tuple(dict.fromkeys(names))


def methods(kind: type) -> Iterator[Any]:
    for base in kind.__mro__:
        if is_own(base):
            for value in vars(base).values():
                found = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                if isinstance(found, types.FunctionType):
                    yield found


def is_own(thing: Any) -> bool:
    """Whether a function or class is the user's, or of a library that is not known here."""
    return (getattr(thing, "__module__", None) or "builtins").split(".")[0] not in _LIBRARIES


def has_attributes(thing: Any) -> bool:
    """Whether a thing's attributes are of interest: a distribution's, a handler's, an object's of one's own."""
    return isinstance(thing, (*_WALKED, *_SPACES)) or (hasattr(thing, "__dict__") and is_own(type(thing)))


def kind_of(value: Any) -> Any:
    """What a graph takes for granted of a thing: its code or type, or that it is this thing and no other."""
    if isinstance(value, types.FunctionType):
        return value.__code__
    if isinstance(value, types.MethodType):
        return value.__func__
    inside = (functools.partial, tuple, dict, list, nn.Module)
    if isinstance(value, inside) or (has_attributes(value) and not isinstance(value, type)):
        return type(value)
    return Same(value)
