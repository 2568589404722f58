"""Storages: the memory of tensors from before a run, which a program may write to, not exchange."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Storages:
    """Tensors with the memory that they had: `tensor.data = other` and `tensor.set_(other)` are no
    operations.

    No recording sees them, so a graph would go on with the old values.

    Args:
        tensors: that are known from the start; `note` takes others.
    """

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        for tensor in tensors:
            self.note(tensor)

    def note(self, tensor: Tensor) -> None:
        """Keep a second view of a tensor's memory."""
        if tensor.layout == torch.strided:
            self._kept.setdefault(id(tensor), (tensor, tensor.detach()))

    def put_back(self) -> Tensor | None:
        """Give each tensor its memory again; the first one that had another."""
        found = None
        for tensor, view in self._kept.values():
            if _place(tensor) != _place(view):
                found = tensor if found is None else found
                tensor.data = view
        return found


def _place(tensor: Tensor) -> tuple[object, ...]:
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape
