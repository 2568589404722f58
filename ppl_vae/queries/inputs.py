"""Inputs: what a program is given that is no site, the label of a conditional model above all."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.data.batch import to_batch
from ppl_vae.isolation import random_numbers
from ppl_vae.pair import Pair
from ppl_vae.queries.arguments import spelled
from ppl_vae.queries.handlers import run, sample_sites

Inputs = Mapping[str, Any]


def names_of(program: nn.Module, count: int) -> tuple[str, ...]:
    """The names of a program's first `count` arguments; none where its forward takes `*batch`."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [each for each in inspect.signature(program.forward).parameters.values() if each.kind in kinds]
    return tuple(each.name for each in found[:count]) if len(found) >= count else ()


def put(pair: Pair, batch: tuple[Tensor, ...], inputs: Inputs | None) -> tuple[Tensor, ...]:
    """A batch of the model with some of its arguments replaced: by name, (n, ...), or one value for all.

    Raises:
        ValueError: for an argument that the model does not have, or a shape that does not fit.
    """
    if not inputs:
        return batch
    names = names_of(pair.model, len(batch))
    if unknown := [name for name in inputs if name not in names]:
        kind = type(pair.model).__name__
        what = f"takes {list(names)}" if names else "takes its batch without names: pass like=(...) instead"
        raise ValueError(f"inputs names {unknown}, but {kind}.forward {what}")
    return (
        tuple(
            _like(inputs[name], given, name) if name in inputs else given for name, given in zip(names, batch)
        )
        or batch
    )


def _like(value: Any, given: Tensor, name: str) -> Tensor:
    (tensor,) = to_batch([torch.as_tensor(value)], [given.dtype], [f"inputs[{name!r}]"])
    tensor = tensor.to(given.device)
    if tensor.shape == given.shape or tensor.shape == given.shape[1:]:
        return tensor.expand(given.shape)
    event = list(given.shape[1:])
    raise ValueError(
        f"inputs[{name!r}]: expected shape {tuple(given.shape)}, or {spelled(event)} for all data alike, got "
        f"{tuple(tensor.shape)}"
    )


def require_choice(pair: Pair, batch: tuple[Tensor, ...], inputs: Inputs | None) -> None:
    """Raise ValueError when a blank batch would stand for an input that the model does look at.

    An argument that a site observes is no input, and one that bears a site's name is not either.
    """
    names = names_of(pair.model, len(batch))
    if len(names) < 2:
        return
    # a run of its own, which must not move the random numbers of the question
    with random_numbers(0, pair.device):
        sites = sample_sites(run(pair.model, batch))
    values = [site["value"] for site in sites.values()]
    missing = [
        name
        for name, given in zip(names, batch)
        if name not in (inputs or {}) and name not in sites and not any(_shared(given, v) for v in values)
    ]
    if missing:
        raise ValueError(
            f"the model takes {missing}, which is data of no site, so a value must be chosen: "
            f"inputs={{{missing[0]!r}: ...}}, one for all or one for each, or like= a batch that has it"
        )


def held(given: Sequence[str], inputs: Inputs | None) -> Sequence[str]:
    """The observed sites that are not drawn: those of `given`, and those whose value was chosen."""
    # a single string is a mistake, which the handler that takes the result names
    return given if isinstance(given, str) else (*given, *(inputs or {}))


def _shared(first: Tensor, second: Any) -> bool:
    """Whether the second tensor is the first, or a view of it."""
    return (
        isinstance(second, Tensor)
        and first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    )
