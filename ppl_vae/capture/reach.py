"""Reach: every tensor, number and part that some programs can see from Python, and where each stands."""

from __future__ import annotations

import functools
import types
from collections.abc import Hashable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ppl_vae.capture.calls import NUMBERS
from ppl_vae.capture.python_parts import Cell, globals_of, has_attributes, is_own, kind_of, methods

MAX_ENTRIES = 1000
"""Longer lists and dictionaries are data, of which only the length is watched."""

_OF_MODULES = frozenset(vars(nn.Module())) - {"training", "_forward_hooks", "_forward_pre_hooks"}
Edge = tuple[Any, Any, Any]


class Reach:
    """What can be reached from some roots: functions, methods, modules, handlers, and objects of one's own.

    A function reaches what its closure, its defaults and the globals that it names hold; a module and an
    object their attributes, and what their class's methods reach. Libraries' own globals are left out,
    and so are results of earlier runs: tensors that have a graph, and caches of transforms.

    Args:
        roots: programs and estimators.
        edges: (owner, key, value) that are watched besides, as of Pyro's parameter store.

    Attributes:
        places: (owner, key, tensor) of each tensor, `owner[key]`.
        numbers: (name, type, value) of what a graph has inside.
        kinds: what else it takes for granted: types, code and keys, in order.
    """

    def __init__(self, roots: Iterable[Any], edges: Iterable[Edge] = ()) -> None:
        self.places: list[Edge] = []
        self._edges: list[Edge] = []
        self._containers: list[tuple[Any, int]] = []
        self._kept: list[Any] = []
        self._visited: set[int] = set()
        numbers: list[tuple[str, type, Any]] = []
        kinds: list[Hashable] = []
        self._waiting: list[tuple[Any, str]] = [(root, _name_of(root)) for root in roots]
        for root, _ in self._waiting:
            kinds.append(kind_of(root))
            self._kept.append(root)
        for owner, key, value in edges:
            self._add(owner, key, value, str(key), numbers, kinds)
        while self._waiting:
            thing, name = self._waiting.pop()
            if id(thing) in self._visited:
                continue
            self._visited.add(id(thing))
            self._kept.append(thing)
            for owner, key, value in self._look(thing, name):
                self._add(owner, key, value, f"{name}.{key}", numbers, kinds)
        self.changed: list[str] = []
        self.numbers = tuple(numbers)
        self.kinds = tuple(kinds)

    def current(self) -> bool:
        """Whether everything still stands where it did, and every number is what it was."""
        try:
            for owner, key, value in self._edges:
                now = owner[key]
                if now is not value and not (
                    type(now) is type(value) and isinstance(value, NUMBERS) and now == value
                ):
                    return False
        except (KeyError, IndexError):
            return False
        return all(len(container) == length for container, length in self._containers)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Whatever is put into the places and containers meanwhile, they are as before afterwards.

        What was changed of numbers is in `changed` then: names.
        """
        copies = [
            (container, dict(container) if isinstance(container, MutableMapping) else list(container))
            for container, _ in self._containers
        ]
        self.changed = []
        try:
            yield
            now = [(owner, key, value, _get(owner, key)) for owner, key, value in self._edges]
            self.changed = [
                str(key)
                for owner, key, value, found in now
                if isinstance(value, NUMBERS) and found is not value and found != value
            ]
        finally:
            for container, copy in copies:
                _restore(container, copy)
            for owner, key, value in self._edges:
                if _get(owner, key) is not value:
                    owner[key] = value

    def _add(
        self, owner: Any, key: Any, value: Any, name: str, numbers: list[Any], kinds: list[Hashable]
    ) -> None:
        if isinstance(value, Tensor):
            if value.grad_fn is not None:  # a result of an earlier run
                return
            self.places.append((owner, key, value))
            kinds.append((str(key), Tensor))
        elif isinstance(value, NUMBERS):
            numbers.append((name, type(value), str(value) if isinstance(value, slice) else value))
        else:
            kinds.append((str(key), kind_of(value)))
            self._kept.append(value)
            self._waiting.append((value, name))
        self._edges.append((owner, key, value))

    def _look(self, thing: Any, name: str) -> Iterator[Edge]:
        """The places within one thing; what has none of its own is put among the waiting."""
        if isinstance(thing, types.FunctionType):
            yield from _of_function(thing, self)
        elif isinstance(thing, types.MethodType):
            self._wait(name, thing.__self__, thing.__func__)
        elif isinstance(thing, functools.partial):
            self._wait(name, thing.func, *thing.args)
            yield from self._container(thing.keywords)
        elif isinstance(thing, tuple):
            self._wait(name, *thing)
        elif isinstance(thing, dict | list):
            yield from self._container(thing)
        elif isinstance(thing, type):
            self._wait(name, *methods(thing))
        elif isinstance(thing, nn.Module):
            parts = [thing._parameters, thing._buffers, thing._modules]
            for part in parts:
                yield from self._container(part)
            skipped = _OF_MODULES | {"_pyro_context"}
            yield from self._container(vars(thing), skipped)
            self._wait(name, *methods(type(thing)))
        elif has_attributes(thing):
            skipped = frozenset({"counter"}) if isinstance(thing, Messenger) else frozenset()
            yield from self._container(vars(thing), skipped)
            self._wait(name, *methods(type(thing)))

    def _wait(self, name: str, *things: Any) -> None:
        self._waiting += [(thing, name) for thing in things]

    def _container(self, container: Any, skipped: frozenset[str] | set[str] = frozenset()) -> Iterator[Edge]:
        self._containers.append((container, len(container)))
        if len(container) > MAX_ENTRIES:
            return
        items = list(container.items() if isinstance(container, MutableMapping) else enumerate(container))
        for key, value in items:
            if key not in skipped and not (isinstance(key, str) and key.startswith("_cached")):
                yield container, key, value


def _of_function(function: types.FunctionType, reach: Reach) -> Iterator[Edge]:
    for cell, key in zip(function.__closure__ or (), function.__code__.co_freevars, strict=True):
        place = Cell(cell)
        try:
            yield place, key, place[key]
        except KeyError:
            continue
    reach._wait(function.__name__, *(function.__defaults__ or ()))
    for container in (function.__kwdefaults__ or {}, vars(function)):
        yield from reach._container(container)
    if is_own(function):
        for key in globals_of(function.__code__):
            if key in function.__globals__:
                yield function.__globals__, key, function.__globals__[key]


def _name_of(root: Any) -> str:
    return getattr(root, "__qualname__", None) or type(root).__qualname__


def _get(owner: Any, key: Any) -> Any:
    try:
        return owner[key]
    except (KeyError, IndexError):
        return None


def _restore(container: Any, copy: Any) -> None:
    if isinstance(container, MutableMapping):
        for key in [key for key in container if key not in copy]:
            del container[key]
        for key, value in copy.items():
            if container.get(key, container) is not value:
                container[key] = value
    elif len(container) != len(copy) or any(one is not two for one, two in zip(container, copy, strict=True)):
        container[:] = copy
