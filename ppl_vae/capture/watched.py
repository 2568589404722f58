"""Watched: the tensors and the plain values that modules keep, so that one that is replaced is seen."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.capture.numbers import NUMBERS, Numbers, changing, plain
from ppl_vae.capture.operators import storage_of

Place = tuple[Any, Any, Any]
"""An owner, a key, and the value that stands there."""
Run = Callable[[], Sequence[Tensor]]
"""A program on its inputs; what it gives are tensors."""
_COPIED = (dict, list, set, deque)
_MODES: dict[str, Callable[[], Any]] = {
    "autocast on a CPU": lambda: torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"),
    "autocast on a GPU": lambda: torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda"),
    "the default dtype": torch.get_default_dtype,
}
"""What of torch's state makes another program of the same lines."""


class Watched:
    """What some modules, their parts and some objects keep that a graph reads, or has inside.

    Tensors are parameters, buffers and plain attributes, each once: one in two places (tied weights) is
    one tensor. Plain values are numbers, strings and the like among the attributes.

    Args:
        modules: with all their submodules.
        objects: whose own attributes, and no more, are looked through.
        places: (owner, key, tensor) of others, where `owner[key]` is the tensor.

    Attributes:
        tensors: each tensor once.
        number: by `id`, the place of each in `tensors`.
        layout: shape, strides, type and device of each, and which of them stands where.
    """

    def __init__(
        self, modules: Iterable[nn.Module], objects: Iterable[Any] = (), places: Iterable[Place] = ()
    ) -> None:
        parts: dict[nn.Module, str] = {}
        for module in modules:
            for path, part in module.named_modules(prefix=type(module).__name__):
                parts.setdefault(part, path)
        owners = [
            (path, each)
            for part, path in parts.items()
            for each in (part._parameters, part._buffers, vars(part))
        ]
        owners += [
            (f"{type(each).__name__}#{place}" if place else type(each).__name__, _vars(each))
            for place, each in enumerate(objects)
        ]
        self._owners: list[dict[str, Any]] = [owner for _, owner in owners]
        found = [(path, owner, key, value) for path, owner in owners for key, value in owner.items()]
        self._names = [f"{path}.{key}" for path, _, key, value in found if isinstance(value, NUMBERS)]
        self._numbers = columns([each[1:] for each in found if isinstance(each[-1], NUMBERS)])
        self._hooks = [each for part in parts for each in (part._forward_hooks, part._forward_pre_hooks)]
        self._seen: list[Any] = [self]
        self._values: tuple[tuple[type, Hashable], ...] = ()
        self._flat = [*places, *[each[1:] for each in found if isinstance(each[-1], Tensor)]]
        self._tensors = columns(self._flat)
        self.tensors = list({id(tensor): tensor for _, _, tensor in self._flat}.values())
        self.number = {id(tensor): number for number, tensor in enumerate(self.tensors)}
        times = Counter(map(storage_of, self.tensors))
        self._shared = {id(tensor) for tensor in self.tensors if times[storage_of(tensor)] > 1}
        where = {id(owner): place for place, owner in enumerate(self._owners)}
        pattern = [(where.get(id(owner)), key, self.number[id(each)]) for owner, key, each in self._flat]
        self.layout = tuple([look_of(tensor) for tensor in self.tensors]), tuple(pattern)

    def current(self) -> bool:
        """Whether every tensor still stands where it did."""
        return stand(*self._tensors)

    def values(self) -> tuple[tuple[type, Hashable], ...]:
        """What the plain values are now, with their types, how many hooks there are, and torch's modes."""
        owners, keys, _ = self._numbers
        found = [*map(dict.get, owners, keys), *map(len, self._hooks), *[mode() for mode in _MODES.values()]]
        if len(found) != len(self._seen) or not all(map(is_, found, self._seen)):
            self._seen = found  # nearly never
            self._values = tuple([(type(each), _plain(each)) for each in found])
        return self._values

    def named(self) -> Numbers:
        """(name, type, value) of each plain value."""
        names = [*self._names, *[f"forward hook {place}" for place in range(len(self._hooks))], *_MODES]
        return tuple([(name, *value) for name, value in zip(names, self.values(), strict=True)])

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

    @contextmanager
    def kept(self) -> Iterator[None]:
        """The attributes are as before afterwards; those that are lists and dictionaries have what they had.

        Raises:
            CaptureError: for a plain value that changed meanwhile, since a captured step would not change it.
        """
        before = self.named()
        inner = [each for owner in self._owners for each in list(owner.values()) if isinstance(each, _COPIED)]
        copies = [(each, each.copy()) for each in [*self._owners, *inner]]
        try:
            yield
            if names := changing([before, self.named()]):
                raise CaptureError(
                    f"a program changes {', '.join(names)}, no tensor, whenever it runs, and a captured step "
                    f"does not run it: make it a 0-d tensor that is a buffer, changed in place"
                )
        finally:
            for value, copy in copies:
                _restore(value, copy)


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


def _restore(thing: Any, copy: Any) -> None:
    if isinstance(thing, dict):
        same = thing.keys() == copy.keys() and all(thing[key] is copy[key] for key in copy)
    elif isinstance(thing, set):
        same = thing == copy
    else:
        same = len(thing) == len(copy) and all(map(is_, thing, copy))
    if not same:
        thing.clear()
        (thing.extend if isinstance(thing, list | deque) else thing.update)(copy)


def _plain(value: Any) -> Hashable:
    return plain(value) if isinstance(value, NUMBERS) else "no plain value"


def _vars(thing: Any) -> dict[str, Any]:
    return thing if isinstance(thing, dict) else vars(thing)
