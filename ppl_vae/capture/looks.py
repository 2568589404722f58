"""Looks: what a graph takes for granted of tensors and of where they stand, asked at each step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ppl_vae.capture.operators import storage_of

Place = tuple[Any, Any, Any]
"""An owner, a key, and the value that stands there."""
MODES: dict[str, Callable[[], Any]] = {
    "autocast on a CPU": lambda: torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"),
    "autocast on a GPU": lambda: torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda"),
    "the default dtype": torch.get_default_dtype,
}
"""What of torch's state makes another program of the same lines."""


def columns(places: Sequence[Place]) -> tuple[Sequence[Any], ...]:
    """The owners, the keys and the values of some places."""
    return tuple(zip(*places)) or ((), (), ())


def stand(owners: Sequence[Any], keys: Sequence[Any], values: Sequence[Any]) -> bool:
    """Whether every value stands in its place; asked at each step, and so without a loop in Python."""
    return all(map(is_, map(dict.get, owners, keys), values))


def quick_looks(tensors: Sequence[Tensor]) -> tuple[list[Any], ...]:
    """What changes when a tensor is given other memory, or another form; asked at each step likewise."""
    dense = [each for each in tensors if each.layout == torch.strided]
    forms = (Tensor.data_ptr, Tensor.stride, Tensor.numel)
    return (*[[*map(form, dense)] for form in forms], [each.dtype for each in dense])


def by_memory(tensors: Sequence[Tensor]) -> dict[int | None, tuple[int, Tensor]]:
    """The first tensor in each piece of memory, with its number."""
    return {storage_of(each): (place, each) for place, each in reversed([*enumerate(tensors)])}


def shared_memory(
    given: Sequence[Tensor], there: Mapping[int | None, tuple[int, Tensor]], number: Mapping[int, int]
) -> tuple[Hashable, ...]:
    """Of each tensor that lies in the memory of another: its place, which one that is, where both begin,
    and whether it is itself that one or another of those; nothing where none does.

    Args:
        given: the tensors.
        there: others by their memory, each with its number; earlier ones of the given are among them too.
        number: of all of the others, by `id`.
    """
    found: list[Hashable] = []
    earlier: dict[int, tuple[int, Tensor]] = {}
    for place, tensor in enumerate(given):
        if (storage := storage_of(tensor)) is None:
            continue
        which, other = there.get(storage) or earlier.setdefault(storage, (-1 - place, tensor))
        if which != -1 - place:
            offsets = tensor.storage_offset(), other.storage_offset()
            found.append((place, which, offsets, tensor is other, number.get(id(tensor))))
    return tuple(found)


def look_of(tensor: Tensor) -> tuple[Any, ...]:
    """What a graph takes for granted of a tensor."""
    strides = tensor.stride() if tensor.layout == torch.strided else tensor.layout
    return tensor.shape, strides, tensor.dtype, tensor.device


def sharing(results: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[int]:
    """The places of results that lie in the memory of an input, or of an earlier result."""
    memory = [storage_of(each) for each in (*inputs, *results)]
    return [
        place - len(inputs) for place in range(len(inputs), len(memory)) if memory[place] in memory[:place]
    ]


def restore(thing: Any, copy: Any) -> None:
    """Give a list or dictionary what a copy of it has."""
    if isinstance(thing, dict):
        same = thing.keys() == copy.keys() and all(thing[key] is copy[key] for key in copy)
    elif isinstance(thing, set):
        same = thing == copy
    else:
        same = len(thing) == len(copy) and all(map(is_, thing, copy))
    if not same:
        thing.clear()
        (thing.extend if isinstance(thing, list | deque) else thing.update)(copy)
