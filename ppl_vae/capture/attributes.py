"""Attributes: the numbers that modules and estimators keep in Python, which a graph has inside."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ppl_vae.capture.calls import NUMBERS, Numbers, changing, plain
from ppl_vae.capture.capture_error import CaptureError

_COPIED = (dict, list, set, deque)


class Attributes:
    """The plain values among the attributes of some modules, their parts and some objects.

    Args:
        modules: with all their submodules.
        objects: whose own attributes, and no more, are watched.
    """

    def __init__(self, modules: Iterable[nn.Module], objects: Iterable[Any] = ()) -> None:
        parts: dict[nn.Module, str] = {}
        for module in modules:
            for path, part in module.named_modules(prefix=type(module).__name__):
                parts.setdefault(part, path)
        owners = [(path, vars(part)) for part, path in parts.items()]
        owners += [
            (f"{type(each).__name__}#{place}" if place else type(each).__name__, _vars(each))
            for place, each in enumerate(objects)
        ]
        self._owners = [owner for _, owner in owners]
        self._hooks = [each for part in parts for each in (part._forward_hooks, part._forward_pre_hooks)]
        self._places = [
            (path, owner, key)
            for path, owner in owners
            for key, value in owner.items()
            if isinstance(value, NUMBERS)
        ]
        self._holders = [owner for _, owner, _ in self._places]
        self._keys = [key for _, _, key in self._places]
        self._found: list[Any] = [self] * (len(self._places) + len(self._hooks))
        self._values: tuple[tuple[type, Hashable], ...] = ()

    def values(self) -> tuple[tuple[type, Hashable], ...]:
        """What they are now, with their types, and how many hooks there are."""
        found = [*map(dict.get, self._holders, self._keys), *map(len, self._hooks)]
        if not all(map(operator.is_, found, self._found)):  # all of a step's cost, nearly always
            self._found = found
            self._values = tuple([(type(each), _plain(each)) for each in found])
        return self._values

    def named(self) -> Numbers:
        """(name, type, value) of each."""
        names = [f"{path}.{key}" for path, _, key in self._places]
        names += [f"forward hook {place}" for place in range(len(self._hooks))]
        return tuple([(name, *value) for name, value in zip(names, self.values(), strict=True)])

    @contextmanager
    def kept(self) -> Iterator[None]:
        """The attributes are as before afterwards; those that are lists and dictionaries have what they had.

        Raises:
            CaptureError: for a plain value that changed meanwhile, since a captured step would not change it.
        """
        before = self.named()
        copies: list[tuple[Any, Any]] = [(owner, dict(owner)) for owner in self._owners]
        inner = [
            (value, value.copy())
            for owner in self._owners
            for value in list(owner.values())
            if isinstance(value, _COPIED)
        ]
        try:
            yield
            if names := changing([before, self.named()]):
                raise CaptureError(
                    f"a program changes {', '.join(names)}, no tensor, whenever it runs, and a captured step "
                    f"does not run it: make it a 0-d tensor that is a buffer, changed in place"
                )
        finally:
            for value, copy in [*copies, *inner]:
                _restore(value, copy)


def _restore(thing: Any, copy: Any) -> None:
    if isinstance(thing, dict):
        if thing.keys() != copy.keys() or any(thing[key] is not copy[key] for key in copy):
            thing.clear()
            thing.update(copy)
    elif isinstance(thing, set):
        if thing != copy:
            thing.clear()
            thing |= copy
    elif len(thing) != len(copy) or any(one is not two for one, two in zip(thing, copy, strict=True)):
        thing.clear()
        thing.extend(copy)


def _plain(value: Any) -> Hashable:
    return plain(value) if isinstance(value, NUMBERS) else "no plain value"


def _vars(thing: Any) -> dict[str, Any]:
    return thing if isinstance(thing, dict) else vars(thing)
