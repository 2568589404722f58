"""Watched: the tensors and the plain values that modules keep, so that one that is replaced is seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._script import OrderedDictWrapper
from torch.utils.weak import WeakIdKeyDictionary

from ppl_vae.capture import looks, numbers
from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.capture.looks import Place, columns, look_of, quick_looks, shared_memory
from ppl_vae.capture.numbers import Numbers, as_key, enclosed, is_plain, kind_of, of_function

Run = Callable[[], Sequence[Tensor]]
"""A program on its inputs; what it gives are tensors."""
_COPIED = (dict, list, set, deque)
_OWN: Any = WeakIdKeyDictionary()  # tensors that were given to a place here, so that a graph may write there
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Watched:
    """What some modules, their parts and some objects keep that a graph reads, or has inside.

    Tensors are parameters, buffers and plain attributes, each once: one in two places (tied weights) is
    one tensor. Plain values are numbers, strings, functions and the like among the attributes.

    Args:
        modules: with all their submodules.
        objects: whose own attributes, and no more, are looked through.
        places: (owner, key, tensor) of others, where `owner[key]` is the tensor.

    Attributes:
        tensors: each tensor once.
        number: by `id`, the place of each in `tensors`.
        layout: shape, strides, type and device of each, which of them stands where, and what the modules are.
    """

    def __init__(
        self, modules: Iterable[nn.Module], objects: Iterable[Any] = (), places: Iterable[Place] = ()
    ) -> None:
        parts: dict[nn.Module, str] = {}
        for place, module in enumerate(modules):
            prefix = f"{type(module).__name__}#{place}" if place else type(module).__name__
            for path, part in module.named_modules(prefix=prefix):
                parts.setdefault(part, path)
        dicts = [(path, (part._parameters, part._buffers, vars(part))) for part, path in parts.items()]
        owners = [(path, _dict(each)) for path, three in dicts for each in three]
        owners += [
            (f"{type(each).__name__}#{place}" if place else type(each).__name__, _dict(each))
            for place, each in enumerate(objects)
        ]
        self._owners: list[dict[str, Any]] = [owner for _, owner in owners]
        found = [(path, owner, key, value) for path, owner in owners for key, value in owner.items()]
        self._names = [f"{path}.{key}" for path, _, key, value in found if is_plain(value)]
        self._numbers = columns([each[1:] for each in found if is_plain(each[-1])])
        self._sizes = [*map(len, self._owners)]
        held = [(part, key, each) for part in parts for key, each in part._modules.items()]
        self._parts = columns([(_dict(part._modules), key, each) for part, key, each in held])
        self._hooks = [getattr(part, name) for part in parts for name in _HOOKS]
        self._seen: list[Any] = [self]
        self._closures: list[Any] = []
        self._values: tuple[tuple[type, Hashable], ...] = ()
        self._flat = [*places, *[each[1:] for each in found if isinstance(each[-1], Tensor)]]
        self._tensors = columns(self._flat)
        self._gifts: list[Place] = []
        self._known = {(id(owner), key) for owner, key, _ in self._flat}
        self.tensors = list({id(tensor): tensor for _, _, tensor in self._flat}.values())
        self.number = {id(tensor): number for number, tensor in enumerate(self.tensors)}
        self._memory = looks.by_memory(self.tensors)
        self._looks = quick_looks(self.tensors)
        where = {id(owner): place for place, owner in enumerate(self._owners)}
        pattern = [(where.get(id(owner)), key, self.number[id(each)]) for owner, key, each in self._flat]
        which = {id(part): place for place, part in enumerate(parts)}
        inside = [(which[id(part)], key, which.get(id(each))) for part, key, each in held]
        self.layout = (
            tuple([look_of(tensor) for tensor in self.tensors]),
            (*pattern, *map(kind_of, parts), *inside, *self._names, *shared_memory(self.tensors, {}, {})),
        )

    def current(self) -> bool:
        """Whether every tensor and module still stands where it did, in memory of the same look."""
        return (
            looks.stand(*self._tensors)
            and looks.stand(*self._parts)
            and self._sizes == [*map(len, self._owners)]
            and self._looks == quick_looks(self.tensors)
        )

    def shared(self, given: Sequence[Tensor]) -> tuple[Hashable, ...]:
        """Which of some others lie in the memory of these or of an earlier one, and where in it."""
        return shared_memory(given, self._memory, self.number)

    def values(self) -> tuple[tuple[type, Hashable], ...]:
        """What the plain values are now, with their types, torch's modes, and which hooks there are."""
        owners, keys, _ = self._numbers
        plain_values = [*map(dict.get, owners, keys), *[mode() for mode in looks.MODES.values()]]
        hooks = [*chain.from_iterable(map(dict.values, self._hooks))]
        found = [*plain_values, *hooks, *chain.from_iterable(map(enclosed, self._closures))]
        if len(found) != len(self._seen) or not all(map(is_, found, self._seen)):
            self._closures = [each for each in (*plain_values, *hooks) if enclosed(each)]  # nearly never
            self._seen = [*plain_values, *hooks, *chain.from_iterable(map(enclosed, self._closures))]
            values = [(type(each), as_key(each)) for each in plain_values]
            self._values = (*values, (tuple, tuple(map(of_function, hooks))))
        return self._values

    def named(self) -> Numbers:
        """(name, type, value) of each plain value."""
        names = (*self._names, *looks.MODES, "which hooks modules have")
        return tuple([(name, *value) for name, value in zip(names, self.values(), strict=True)])

    def take_over(self, run: Run) -> list[Tensor]:
        """What a program gives. A tensor that it assigned in place of one of these is copied into that one.

        A captured step knows only the tensors that were there. A place that has no memory of its own keeps
        what it had until it is given some: that may be the caller's data, or another's too.

        Raises:
            CaptureError: for one of another shape, in a place that has memory of its own.
        """
        for owner in self._owners:  # what a flow keeps of its last run, and its graph, which is gone
            if "_cached_x_y" in owner:
                owner["_cached_x_y"] = None, None
        found = list(run())
        self._gifts = []
        for owner, key, tensor in self._flat:
            if (now := owner.get(key)) is tensor or not isinstance(now, Tensor):
                continue
            owner[key] = tensor
            own = isinstance(tensor, nn.Parameter) or tensor in _OWN
            if now.shape != tensor.shape and own:
                raise CaptureError(
                    f"a program puts a tensor of shape {tuple(now.shape)} in the place of one of shape "
                    f"{tuple(tensor.shape)}, attribute {key!r}, and a captured step keeps tensors where they "
                    "are: make it of one size before the first step, or do not keep it"
                )
            alike = (now.shape, now.dtype, now.device) == (tensor.shape, tensor.dtype, tensor.device)
            with torch.no_grad():
                if alike and own:
                    tensor.copy_(now)
                else:
                    self._gifts.append((owner, key, tensor if alike else now))
        for owner in self._owners:
            there = [(owner, key, each) for key, each in owner.items() if isinstance(each, Tensor)]
            self._gifts += [each for each in there if (id(owner), each[1]) not in self._known]
        return found

    def give(self) -> None:
        """Put copies in the places that were found by `take_over`, where a graph may write to them."""
        for owner, key, value in self._gifts:
            if not isinstance(value, nn.Parameter):
                owner[key] = value.detach().clone()
                _OWN[owner[key]] = True
        self._gifts.clear()

    def new_since(self, before: Watched) -> list[Tensor]:
        """The tensors in places that there were not before."""
        return [each for owner, key, each in self._flat if (id(owner), key) not in before._known]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """The attributes are as before afterwards; those that are lists and dictionaries have what they had.

        Raises:
            CaptureError: for a plain value that changed meanwhile, since a captured step would not change it.
        """
        before = self.named()
        inner = [each for owner in self._owners for each in [*owner.values()] if isinstance(each, _COPIED)]
        copies = [(each, each.copy()) for each in [*self._owners, *inner]]
        try:
            yield
            if names := numbers.changing([before, self.named()]):
                raise CaptureError(
                    f"a program changes {', '.join(names)}, no tensor, whenever it runs, and a captured step "
                    f"does not run it: make it a 0-d tensor that is a buffer, changed in place"
                )
        finally:
            for value, copy in copies:
                looks.restore(value, copy)


def _dict(thing: Any) -> dict[str, Any]:
    """An object's attributes or a module's parts; of TorchScript's, kept elsewhere, the parts."""
    if isinstance(thing, OrderedDictWrapper):
        return dict(thing.items())
    return thing if isinstance(thing, dict) else vars(thing)
