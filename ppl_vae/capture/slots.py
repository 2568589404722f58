"""Slots: the places where modules keep their tensors, so that one that is replaced is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

Place = tuple[Any, Any, Tensor]
Run = Callable[[], Sequence[Tensor]]
"""A program on its inputs; what it gives are tensors."""


class Slots:
    """All tensors of some modules and objects, each once.

    Parameters, buffers, and tensors that are plain attributes. A tensor in two places (tied weights)
    is one tensor.

    Args:
        modules: with all their submodules.
        objects: whose own attributes, and no more, are looked through.
        places: (owner, key, tensor) of others, where `owner[key]` is the tensor.

    Attributes:
        tensors: each tensor once.
        number: by `id`, the place of each in `tensors`.
        pattern: which tensor stands where, to compare with that of other slots.
    """

    def __init__(
        self, modules: Iterable[nn.Module], objects: Iterable[Any] = (), places: Iterable[Place] = ()
    ) -> None:
        self.tensors: list[Tensor] = []
        self.number: dict[int, int] = {}
        self._flat: list[Place] = []
        pattern = []
        named: list[tuple[tuple[Any, ...], Any, Any, Tensor]] = [
            ((str(key),), owner, key, value) for owner, key, value in places
        ]
        for where, owner in enumerate(_owners(modules, objects)):
            named += [
                ((where, key), owner, key, value) for key, value in owner.items() if isinstance(value, Tensor)
            ]
        for name, owner, key, value in named:
            if id(value) not in self.number:
                self.number[id(value)] = len(self.tensors)
                self.tensors.append(value)
            self._flat.append((owner, key, value))
            pattern.append((*name, self.number[id(value)]))
        self.pattern = tuple(pattern)

    def current(self) -> bool:
        """Whether every tensor still stands where it did."""
        return all([owner.get(key) is tensor for owner, key, tensor in self._flat])

    def take_over(self, run: Run) -> list[Tensor]:
        """What a program gives. A tensor that it assigned in place of one of these is copied into that one.

        A captured step knows only the tensors that were there.
        """
        found = list(run())
        for owner, key, tensor in self._flat:
            if (now := owner.get(key)) is not tensor and isinstance(now, Tensor):
                tensor.detach().copy_(now.detach())
                owner[key] = tensor
        return found

    def looks(self) -> tuple[Any, ...]:
        """Shape, strides, type and device of each tensor."""
        return tuple([look_of(tensor) for tensor in self.tensors])


def look_of(tensor: Tensor) -> tuple[Any, ...]:
    """What a graph takes for granted of a tensor."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _owners(modules: Iterable[nn.Module], objects: Iterable[Any]) -> Iterator[dict[str, Any]]:
    seen: set[int] = set()
    for module in modules:
        for part in module.modules():
            if id(part) not in seen:
                seen.add(id(part))
                yield from (part._parameters, part._buffers, vars(part))
    for thing in objects:
        yield thing if isinstance(thing, dict) else vars(thing)
