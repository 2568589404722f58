"""Memory during a recorded run: what lay there before it, and which tensors lie at the same place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from ppl_vae.capture.operators import place_of, storage_of


class Before:
    """How the tensors that were there before a run were, to be so again.

    Args:
        inputs: of the run, of which it may ask for gradients.
        known: others that may take part.

    Attributes:
        exchanged: the first one found, by `restore`, to have been given other memory.
    """

    def __init__(self, inputs: Sequence[Tensor], known: Sequence[Tensor]) -> None:
        self.exchanged: Tensor | None = None
        self._outside: set[int | None] = set()
        self._memory: dict[int, tuple[Tensor, Tensor]] = {}
        self._changed: dict[int, tuple[Any, Any]] = {}
        self._versions: dict[int, int] = {}
        self._plain = [(each, each.grad) for each in inputs if not each.requires_grad]
        for tensor in inputs:
            self.note(tensor)
        for tensor in known:
            self._note_memory(tensor)

    def note(self, tensor: Tensor) -> None:
        """This one takes part."""
        self._note_memory(tensor)
        self._outside.add(storage_of(tensor))

    def keep(self, changing: Sequence[Tensor]) -> None:
        """Keep the values of what is about to change."""
        for tensor in changing:
            storage = tensor.untyped_storage()
            if storage._cdata in self._outside and storage._cdata not in self._changed:
                self._changed[storage._cdata] = storage, storage.clone()

    def changed(self, tensor: Tensor) -> bool:
        """Whether it was written to, by whichever view."""
        return storage_of(tensor) in self._changed

    def restore(self) -> None:
        """Give them the memory and the values that they had, and the versions that tell of changes."""
        for tensor, view in self._memory.values():
            if place_of(tensor) != place_of(view):
                self.exchanged = tensor if self.exchanged is None else self.exchanged
                tensor.data = view
        for storage, before in self._changed.values():
            storage.copy_(before)
        there = [tensor for tensor, _ in self._memory.values() if id(tensor) in self._versions]
        torch._C._autograd._unsafe_set_version_counter(
            tuple(there), tuple([self._versions[id(each)] for each in there])
        )
        for tensor, gradient in self._plain:
            if tensor.requires_grad:
                tensor.requires_grad_(False).grad = gradient

    def _note_memory(self, tensor: Tensor) -> None:
        """Keep a second view of a tensor's memory, since `.data =` and `.set_()` are no operations."""
        if tensor.layout == torch.strided and id(tensor) not in self._memory:
            self._memory[id(tensor)] = tensor, tensor.detach()
            if not tensor.is_inference():
                self._versions[id(tensor)] = tensor._version


class Living:
    """Numbers of tensors by where they lie, for those that become others without an operation.

    `nn.Parameter(x)`, `x.as_subclass(...)` and DLPack give a new object at the memory of an old one.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], tuple[int, StorageWeakRef]] = {}

    def note(self, tensor: Tensor, number: int) -> None:
        """A tensor has this number."""
        if (key := self._key(tensor)) is not None:
            self._numbers[key] = number, StorageWeakRef(tensor.untyped_storage())

    def number(self, tensor: Tensor) -> int | None:
        """The number of the tensor that lies where this one does, in the same way; None where none does."""
        found = self._numbers.get(self._key(tensor) or ())
        return None if found is None or found[1].expired() else found[0]

    @staticmethod
    def _key(tensor: Tensor) -> tuple[Any, ...] | None:
        if tensor.layout != torch.strided or not tensor.numel():
            return None
        return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
