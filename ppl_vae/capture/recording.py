"""A recording: what a program did to tensors, written down, to be compiled or compared with later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_vae.capture.capture_error import Line


class Ref(NamedTuple):
    """The number of a tensor in a recording: in the order in which they were first seen."""

    number: int


class Entry(NamedTuple):
    """One operation: its operator, arguments with a `Ref` for each tensor, the results,
    and the line it is on.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    results: Any
    line: Line

    def taken(self) -> Iterator[Ref]:
        """The tensors among its arguments."""
        return refs((self.args, self.kwargs))


class Alias(NamedTuple):
    """What an external that lies where another tensor does is of, and how many operations came before it."""

    number: int
    place: int


@dataclass
class Recording:
    """The operations of one run.

    Attributes:
        entries: in order.
        inputs: how many of the first numbers are the inputs.
        externals: by number, the tensors that were there before the run and came from elsewhere.
        memory: by number, the address of each when it was first seen.
        aliases: those externals that lie where another tensor of the run does, in the same way.
        constants: by number, tensors that the run made of Python's values.
        changed: the numbers of those inputs and externals that the run wrote to.
        strides: by number, of the results that are no views and no arguments.
        outputs: the numbers of what the run gave.
        copied: those of them that are views of what was changed, and are given as copies.
        looks: shape, strides, type and device of each.
        random: the state of torch's generator when the run ended.
        numbers: how many the operations wrote.
    """

    inputs: int
    entries: list[Entry] = field(default_factory=list)
    externals: dict[int, Tensor] = field(default_factory=dict)
    memory: dict[int, int] = field(default_factory=dict)
    aliases: dict[int, Alias] = field(default_factory=dict)
    constants: dict[int, Tensor] = field(default_factory=dict)
    changed: frozenset[int] = frozenset()
    strides: dict[int, tuple[int, ...]] = field(default_factory=dict)
    outputs: tuple[int, ...] = ()
    copied: frozenset[int] = frozenset()
    looks: tuple[tuple[Any, ...], ...] = ()
    random: Tensor | None = None
    numbers: int = 0

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """What was recorded, on other tensors: inputs, externals and constants, in their numbers' order."""
        found = dict(zip((*range(self.inputs), *self.externals, *self.constants), tensors, strict=True))
        for number in self.constants:  # a copy, since the program may go on to change it
            found[number] = found[number].clone()
        for entry in self.entries:
            results = entry.op(*_filled(entry.args, found), **{k: _filled(v, found) for k, v in entry.kwargs})
            several = isinstance(entry.results, tuple) and not isinstance(entry.results, Ref)
            for ref, each in zip(entry.results, results) if several else [(entry.results, results)]:
                if isinstance(ref, Ref):
                    new = ref.number not in found
                    found[ref.number] = _laid_out(each, self.strides.get(ref.number, ())) if new else each
        return [found[each].clone() if each in self.copied else found[each] for each in self.outputs]

    def made_here(self, numbers: Iterable[int]) -> None:
        """These externals were made in the run: they are the other tensors that lie where they do."""
        for number in sorted(numbers, reverse=True):
            source, place = self.aliases[number]
            del self.externals[number]
            self.changed -= {number}
            self.entries.insert(
                place, Entry(torch.ops.aten.alias.default, (Ref(source),), (), Ref(number), None)
            )

    def line_using(self, number: int) -> Line:
        """The line of the first operation in which a tensor takes part; None where it is only given out."""
        return next((each.line for each in self.entries if Ref(number) in each.taken()), None)


def refs(noted: Any) -> Iterator[Ref]:
    """The tensors among the arguments or results of an operation."""
    if isinstance(noted, Ref):
        yield noted
    elif isinstance(noted, tuple):
        for each in noted:
            yield from refs(each)


def _filled(noted: Any, found: Mapping[int, Tensor]) -> Any:
    if isinstance(noted, Ref):
        return found[noted.number]
    return [_filled(each, found) for each in noted] if isinstance(noted, tuple) else noted


def _laid_out(tensor: Tensor, strides: Sequence[int]) -> Tensor:
    """A tensor as it lay in memory when it was recorded, since views are asked of it; traced, some differ."""
    if not strides:
        return tensor
    sizes = zip(tensor.shape, tensor.stride(), strides)
    if all(size == 1 or one == two for size, one, two in sizes) or not tensor.numel():
        return tensor
    return tensor.new_empty_strided(tensor.shape, strides).copy_(tensor)
