"""Two recordings of one program, held against each other operation by operation and constant by constant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from ppl_vae.capture.capture_error import CaptureError, named
from ppl_vae.capture.looks import look_of
from ppl_vae.capture.operators import EXCHANGED
from ppl_vae.capture.recording import Entry, Recording, Ref
from ppl_vae.core.missing import same_values


def settle(first: Recording, second: Recording) -> None:
    """Hold two runs of one program against each other, and make constants of what each of them made anew.

    A tensor from elsewhere that is the same object in both, or lies in the same memory, is an input of the
    graph; one that is another, of the same values, was made by the program of Python's or NumPy's numbers.

    Raises:
        CaptureError: where they differ; names the line and both values.
    """
    if first.random is not None and second.random is not None and torch.equal(first.random, second.random):
        raise CaptureError("a program seeds torch's random numbers, which a captured step would not do")
    for number, tensor in first.externals.items():
        if second.externals.get(number) is tensor and first.memory[number] != second.memory[number]:
            where = named(first.line_using(number))
            raise CaptureError(f"{where}{EXCHANGED.format(tuple(tensor.shape))}")
    there = second.externals
    made = [each for each in first.aliases if each in there and there[each] is not first.externals[each]]
    first.made_here(made)
    second.made_here(each for each in made if each in second.aliases)
    for number in [each for each, tensor in first.externals.items() if _another(tensor, second, each)]:
        for each in (first, second):
            each.constants[number] = each.externals.pop(number).detach().clone()
    if (found := difference(first, second)) is not None:
        raise CaptureError(
            f"{found}, in two runs one after the other: what changes from step to step must be a tensor that "
            f"is an argument, a buffer or a parameter, changed in place"
        )


def _another(tensor: Tensor, recording: Recording, number: int) -> bool:
    other = recording.externals.get(number)
    return other is not None and not _lie_together(tensor, other)


def _lie_together(one: Tensor, two: Tensor | None) -> bool:
    """Whether these are one tensor, or two in the same memory: what each run makes of what was there."""
    if two is None or one is two or one.layout != torch.strided or two.layout != torch.strided:
        return one is two
    return one.data_ptr() == two.data_ptr() != 0 and look_of(one) == look_of(two)


def check_carried(recording: Recording, made: Sequence[Tensor]) -> None:
    """Refuse what the first run made and each run reads and then changes: an eager step starts without it."""
    new = {id(tensor) for tensor in made}
    there = recording.externals
    for number in (each for each in recording.changed & there.keys() if id(there[each]) in new):
        first = next(entry for entry in recording.entries if Ref(number) in entry.taken())
        if first.op is not torch.ops.aten.copy_.default or first.args[0] != Ref(number):
            shape = tuple(there[number].shape)
            raise CaptureError(
                f"{named(first.line)}the first run of the program makes a tensor of shape {shape} that later "
                "ones read and change: make it before the first step, self.register_buffer(name, tensor)"
            )


def difference(first: Recording, second: Recording) -> str | None:
    """Where the second run differs from the first: line, old and new value; None where it does not."""
    made = first.aliases.keys() - first.externals.keys()
    second.made_here(made & second.aliases.keys() & second.externals.keys())
    pairs = zip(first.entries, second.entries)
    parting = next((place for place, pair in enumerate(pairs) if _apart(*pair)), None)
    # tensors that come in after the runs went apart have numbers that mean nothing
    together = first.entries[:parting]
    inside = {ref.number for entry in together for ref in entry.taken()}
    for number, constant in first.constants.items():
        now = second.constants.get(number, second.externals.get(number))
        if (parting is None or number in inside) and (now is None or not _equal_tensors(constant, now)):
            where = named(first.line_using(number))
            return f"{where}a value was {_shown(constant)} and is {_shown(now)}"
    for number, tensor in first.externals.items():
        if (parting is None or number in inside) and not _lie_together(tensor, second.externals.get(number)):
            where = named(first.line_using(number))
            return f"{where}a tensor of shape {tuple(tensor.shape)} is another object"
    if parting is not None:
        one, two = first.entries[parting], second.entries[parting]
        return f"{named(one.line or two.line)}{_apart(one, two)}"
    if len(first.entries) != len(second.entries) or first.outputs != second.outputs:
        longer = max(first.entries, second.entries, key=len)
        rest = longer[min(len(first.entries), len(second.entries)) :]
        where = named(next((entry.line for entry in rest if entry.line), None))
        return f"{where}there were {len(first.entries)} operations and are {len(second.entries)}"
    return None


def _apart(one: Entry, two: Entry) -> str | None:
    """How two operations differ; None where they do not."""
    if one.op is not two.op:
        return f"the operation was {one.op} and is {two.op}"
    pairs = zip_longest(_flat((one.args, one.kwargs)), _flat((two.args, two.kwargs)))
    found = next(((was, now) for was, now in pairs if not _same(was, now)), None)
    return None if found is None else f"a value of {one.op} was {found[0]!s:.200} and is {found[1]!s:.200}"


def _flat(noted: Any) -> Iterator[Any]:
    """The values in nested tuples of arguments, behind how many each has."""
    if isinstance(noted, Ref):
        yield f"tensor {noted.number}"
    elif isinstance(noted, tuple):
        yield f"{len(noted)} values"
        for each in noted:
            yield from _flat(each)
    else:
        yield noted


def _same(one: Any, two: Any) -> bool:
    try:
        return one is two or (type(one) is type(two) and bool(one == two or (one != one and two != two)))
    except Exception:  # an object that cannot be compared is another one
        return False


def _equal_tensors(one: Tensor, two: Tensor) -> bool:
    if (one.shape, one.dtype, one.device) != (two.shape, two.dtype, two.device):
        return False
    return same_values(one, two)


def _shown(value: Tensor | None) -> str:
    if value is None:
        return "nothing"
    if value.numel() == 1:
        return repr(value.item())
    return f"{value.flatten()[:4].tolist()}{'...' if value.numel() > 4 else ''} of shape {tuple(value.shape)}"
