"""Slots: the places where modules keep their tensors, so that one that is replaced is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.capture.operators import storage_of

Place = tuple[Any, Any, Any]
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
        self._columns = columns(self._flat)
        memory = [storage_of(tensor) for tensor in self.tensors]
        several = {each for each, count in Counter(memory).items() if count > 1}
        self._shared = {id(tensor) for tensor, each in zip(self.tensors, memory) if each in several}

    def current(self) -> bool:
        """Whether every tensor still stands where it did."""
        return stand(*self._columns)

    def take_over(self, run: Run) -> list[Tensor]:
        """What a program gives. A tensor that it assigned in place of one of these is copied into that one.

        A captured step knows only the tensors that were there. Where that memory is another tensor's too, as
        torch's older spectral_norm has it, or of another type, the place gets memory of its own.

        Raises:
            CaptureError: for one of another shape.
        """
        found = list(run())
        for owner, key, tensor in self._flat:
            if (now := owner.get(key)) is tensor or not isinstance(now, Tensor):
                continue
            owner[key] = tensor
            if now.shape != tensor.shape:
                raise CaptureError(
                    f"a program puts a tensor of shape {tuple(now.shape)} in the place of one of shape "
                    f"{tuple(tensor.shape)}, attribute {key!r}, and a captured step keeps tensors where they "
                    "are: make it of one size before the first step, or do not keep it"
                )
            alike = (now.dtype, now.device) == (tensor.dtype, tensor.device)
            with torch.no_grad():
                if alike and id(tensor) not in self._shared:
                    tensor.copy_(now)
                else:  # what is there now, to be found as a place of its own
                    owner[key] = tensor.detach().to(now.device, now.dtype, copy=True)
        return found

    def looks(self) -> tuple[Any, ...]:
        """Shape, strides, type and device of each tensor."""
        return tuple([look_of(tensor) for tensor in self.tensors])


def columns(places: Sequence[Place]) -> tuple[Sequence[Any], ...]:
    """The owners, the keys and the values of some places."""
    return tuple(zip(*places)) or ((), (), ())


def stand(owners: Sequence[Any], keys: Sequence[Any], values: Sequence[Any]) -> bool:
    """Whether every value stands in its place; asked at each step, and so without a loop in Python."""
    return all(map(is_, map(dict.get, owners, keys), values))


def look_of(tensor: Tensor) -> tuple[Any, ...]:
    """What a graph takes for granted of a tensor."""
    strides = tensor.stride() if tensor.layout == torch.strided else tensor.layout
    return tensor.shape, strides, tensor.dtype, tensor.device


def _owners(modules: Iterable[nn.Module], objects: Iterable[Any]) -> Iterator[dict[str, Any]]:
    seen: set[int] = set()
    for module in modules:
        for part in module.modules():
            if id(part) not in seen:
                seen.add(id(part))
                yield from (part._parameters, part._buffers, vars(part))
    for thing in objects:
        yield thing if isinstance(thing, dict) else vars(thing)
