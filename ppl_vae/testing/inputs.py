"""What `check_pair` is given, and what a model takes besides its sites' data, as a report says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.core.dependence import readings
from ppl_vae.core.factor_sites import factor_names
from ppl_vae.core.isolation import random_numbers
from ppl_vae.core.missing import takes_missing
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError
from ppl_vae.data import DataSet, as_split, for_pair
from ppl_vae.data.convert import is_several
from ppl_vae.data.gaps import example_of
from ppl_vae.data.known_table import of_table
from ppl_vae.queries.inputs import names_of


def model_inputs(pair: Pair, batch: Sequence[Tensor]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The arguments that are inputs; and notes: on each that is data and whose values the model reads
    elsewhere too, and on how the programs run.
    """
    names = names_of(pair, len(batch)) or tuple(f"number {number}" for number in range(len(batch)))
    inputs, notes = [], []
    for reading in readings(pair.model, batch, pair.device):
        name = names[reading.argument]
        if reading.matters and not reading.data_of:
            inputs.append(name)
        elif reading.matters:
            notes.append(
                f"the model reads the values of {name!r} outside obs= of site {reading.data_of[0]!r}: "
                f"{reading.in_words()}. Training and evaluation are as sound as without; what is drawn from "
                f"the model, pv.sample and pv.decode, needs like=, a batch of data"
            )
    if pair.fixed_rows is not None:
        notes.append(
            f"the programs have parameters for each of these {pair.fixed_rows} data: they go with all of "
            "them as one batch, in this order"
        )
    if pair.one_by_one:
        notes.append(f"particles are drawn one by one, in K times the time: {pair.one_by_one}")
    return tuple(inputs), tuple(notes)


def factor_notes(model_trace: Trace, guide_trace: Trace) -> tuple[str, ...]:
    """Notes on what a program's density has besides its sample statements."""
    notes = []
    if factors := factor_names(model_trace):
        notes.append(
            f"the model's density has the factors {factors}, of which pv.sample, that draws by the sample "
            "statements alone, knows nothing"
        )
    if factors := factor_names(guide_trace):
        notes.append(
            f"the guide has the factors {factors}, which training takes for densities of what it draws: "
            "evaluations refuse them, since a penalty makes no bound"
        )
    return tuple(notes)


def batch_of(pair: Pair, batch: Sequence[Any]) -> tuple[Tensor, ...]:
    """A batch as it is given, or some rows of data that is given whole.

    Raises:
        PairError: for what is no Tensors, or fewer than two data.
    """
    if len(batch) == 1 and is_several(batch[0]):
        batch = _some_rows(pair, batch[0])
    _check_batch(batch)
    return tuple(batch)


def _some_rows(pair: Pair, data: Any) -> tuple[Tensor, ...]:
    given = (
        data.train if isinstance(data, DataSet) else as_split(of_table(data, pair), takes_missing(pair.model))
    )
    with random_numbers(0, torch.device("cpu")):  # the rows of a dynamic split are drawn
        return tuple(tensor.to(pair.device) for tensor in example_of(for_pair(given, pair), None, 8))


def _check_batch(batch: Sequence[Tensor]) -> None:
    """Two data or more, as Tensors."""
    if others := [type(each).__name__ for each in batch if not isinstance(each, Tensor)]:
        raise PairError(
            f"check_pair takes the tensors that the programs take, got {others}: check_pair(pair, x), or "
            f"of a data set check_pair(pair, data.train)"
        )
    if not batch or any(tensor.dim() == 0 or len(tensor) < 2 for tensor in batch):
        shapes = [tuple(tensor.shape) for tensor in batch]
        raise PairError(
            f"check_pair needs a batch of two data or more, got shapes {shapes}: check_pair(pair, x)"
        )
