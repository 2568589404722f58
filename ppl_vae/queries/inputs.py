"""Inputs: what a program is given that is no site, the label of a conditional model above all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.dependence import Reading, readings
from ppl_vae.core.pair import Pair
from ppl_vae.data.batch import to_batch
from ppl_vae.queries.arguments import spelled, tensor_of

Inputs = Mapping[str, Any]


def names_of(pair: Pair, count: int) -> tuple[str, ...]:
    """The names of a batch's `count` tensors; none where the programs take `*batch`."""
    names = pair.arguments or ()
    return names[:count] if len(names) >= count else ()


def check_inputs(inputs: Inputs | None) -> None:
    """Raise ValueError unless they are values by name."""
    if inputs is not None and not isinstance(inputs, Mapping):
        raise ValueError(
            f"inputs must be values by the model's arguments, such as inputs={{'y': 3}}, got {inputs!r:.80}"
        )


def put(pair: Pair, batch: tuple[Tensor, ...], inputs: Inputs | None) -> tuple[Tensor, ...]:
    """A batch of the model with some of its arguments replaced: by name, (n, ...), or one value for all.

    Raises:
        ValueError: for an argument that the model does not have, or a shape that does not fit.
    """
    check_inputs(inputs)
    if not inputs:
        return batch
    names = names_of(pair, len(batch))
    if unknown := [name for name in inputs if name not in names]:
        what = f"takes {list(names)}" if names else "takes its batch without names: pass like=(...) instead"
        raise ValueError(f"inputs names {unknown}, but the model {what}")
    return (
        tuple(
            _like(inputs[name], given, name) if name in inputs else given for name, given in zip(names, batch)
        )
        or batch
    )


def _like(value: Any, given: Tensor, name: str) -> Tensor:
    (tensor,) = to_batch([tensor_of(value)], [given.dtype], [f"inputs[{name!r}]"])
    tensor = tensor.to(given.device)
    if tensor.shape == given.shape or tensor.shape == given.shape[1:]:
        return tensor.expand(given.shape)
    event = list(given.shape[1:])
    raise ValueError(
        f"inputs[{name!r}]: expected shape {tuple(given.shape)}, or {spelled(event)} for all data alike, got "
        f"{tuple(tensor.shape)}"
    )


def require_choice(pair: Pair, inputs: Inputs | None) -> None:
    """Raise ValueError when blank arguments would stand for values that the model does read.

    An argument that a site observes, and whose values the model reads nowhere else, needs none.
    """
    check_inputs(inputs)
    blank = pair.blank_batch(2)
    names = names_of(pair, len(blank)) or tuple(f"number {number}" for number in range(len(blank)))
    generator = torch.Generator().manual_seed(
        0
    )  # nothing but zeros would hide what log or a division does to them
    filled = tuple(
        torch.rand(tensor.shape, generator=generator).to(tensor) if tensor.is_floating_point() else tensor
        for tensor in blank
    )
    few = {
        name: _first_rows(value, blank[names.index(name)])
        for name, value in (inputs or {}).items()
        if name in names  # `put` refuses the others
    }
    missing = [
        (names[reading.argument], reading)
        for reading in readings(pair.model, put(pair, filled, few), pair.device)
        if reading.matters and names[reading.argument] not in few
    ]
    for name, reading in missing:
        if reading.data_of:
            raise ValueError(_reads_its_data(name, reading))
    if missing:
        first = missing[0][0]
        raise ValueError(
            f"the model takes {[name for name, _ in missing]}, which is data of no site, so a value must be "
            f"chosen: inputs={{{first!r}: ...}}, one for all or one for each, or like= a batch that has it"
        )


def _reads_its_data(name: str, reading: Reading) -> str:
    site = reading.data_of[0]
    by_name = "" if name in reading.data_of or " " in name else f", or inputs={{{name!r}: ...}}"
    return (
        f"the model reads the values of its argument {name!r} outside obs= of site {site!r}: "
        f"{reading.in_words()}. Zeros in their place would be invented: pass like=, a batch whose rows stand "
        f"there while the sites are drawn{by_name}"
    )


def _first_rows(value: Any, blank: Tensor) -> Any:
    """A chosen value as one for two data: it is for all of them, or its first rows."""
    tensor = tensor_of(value)
    return tensor[torch.arange(2) % len(tensor)] if tensor.dim() == blank.dim() else tensor


def held(given: Sequence[str], inputs: Inputs | None) -> Sequence[str]:
    """The observed sites that are not drawn: those of `given`, and those whose value was chosen.

    Raises:
        ValueError: for a `given` that is no list of names, and `inputs` that are no values by name.
    """
    check_inputs(inputs)
    # a single string is a mistake, which the handler that takes the result names
    return given if isinstance(given, str) else (*names_given(given), *(inputs or {}))


def names_given(given: Sequence[str]) -> Sequence[str]:
    """The names, if that is what they are.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(given, Sequence | Set) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"given names observed sites, such as ['y'], got {given!r:.80}")
    return tuple(given)
