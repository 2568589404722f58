"""Slots: the places where modules keep their tensors, so that a step can be traced with others in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Slot:
    """One place: `owner[key]`."""

    owner: Any
    key: Any

    def get(self) -> Tensor:
        tensor: Tensor = self.owner[self.key]
        return tensor

    def put(self, tensor: Tensor) -> None:
        self.owner[self.key] = tensor


class Slots:
    """All tensors of some modules and objects, each once, with every place that it stands in.

    Parameters, buffers, and tensors that are plain attributes. A tensor in two places (tied weights)
    is one tensor.

    Args:
        modules: with all their submodules.
        objects: whose own attributes, and no more, are looked through.

    Attributes:
        tensors: each tensor once.
        places: where each of them stands.
        pattern: which tensor stands where, to compare with that of other slots.
    """

    def __init__(self, modules: Iterable[nn.Module], objects: Iterable[Any]) -> None:
        self._find(
            (owner, key, value, (place, key))
            for place, owner in enumerate(_owners(modules, objects))
            for key, value in owner.items()
            if isinstance(value, Tensor)
        )

    @classmethod
    def at(cls, places: Iterable[tuple[Any, Any, Tensor]]) -> Slots:
        """The slots at given places, (owner, key, tensor) each, where `owner[key]` is the tensor."""
        slots = cls.__new__(cls)
        slots._find((owner, key, value, (str(key),)) for owner, key, value in places)
        return slots

    def _find(self, places: Iterable[tuple[Any, Any, Tensor, tuple[Any, ...]]]) -> None:
        self.tensors: list[Tensor] = []
        self.places: list[list[Slot]] = []
        number: dict[int, int] = {}
        pattern = []
        for owner, key, value, name in places:
            if id(value) not in number:
                number[id(value)] = len(self.tensors)
                self.tensors.append(value)
                self.places.append([])
            self.places[number[id(value)]].append(Slot(owner, key))
            pattern.append((*name, number[id(value)]))
        self.pattern = tuple(pattern)
        self._flat = [
            (slot.owner, slot.key, tensor)
            for tensor, slots in zip(self.tensors, self.places, strict=True)
            for slot in slots
        ]

    def current(self) -> bool:
        """Whether every tensor still stands where it did."""
        return all(owner.get(key) is tensor for owner, key, tensor in self._flat)

    @contextmanager
    def holding(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Other tensors in the places; afterwards the old ones are back.

        What a program assigned in place of a tensor is copied into it, since a captured step knows only
        the tensors that were there.
        """
        for places, tensor in zip(self.places, tensors, strict=True):
            for slot in places:
                slot.put(tensor)
        try:
            yield
            for places, tensor in zip(self.places, tensors, strict=True):
                for slot in places:
                    if (assigned := slot.get()) is not tensor:
                        tensor.detach().copy_(assigned.detach())
        finally:
            for owner, key, tensor in self._flat:
                owner[key] = tensor

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Whatever happens to the tensors' values meanwhile, they are as before afterwards."""
        before = [tensor.detach().clone() for tensor in self.tensors]
        try:
            yield
        finally:
            for owner, key, tensor in self._flat:
                owner[key] = tensor
            for tensor, value in zip(self.tensors, before, strict=True):
                tensor.detach().copy_(value)


def _owners(modules: Iterable[nn.Module], objects: Iterable[Any]) -> Iterator[dict[str, Any]]:
    seen: set[int] = set()
    for module in modules:
        for part in module.modules():
            if id(part) not in seen:
                seen.add(id(part))
                yield from (part._parameters, part._buffers, vars(part))
    for thing in objects:
        yield thing if isinstance(thing, dict) else vars(thing)
