"""What a model takes besides its sites' data, as a report says it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ppl_vae.core.dependence import readings
from ppl_vae.core.pair import Pair
from ppl_vae.queries.inputs import names_of


def model_inputs(pair: Pair, batch: Sequence[Tensor]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The arguments that are inputs, and a note on each that is data and whose values the model reads
    elsewhere too.
    """
    names = names_of(pair.model, len(batch)) or tuple(f"number {number}" for number in range(len(batch)))
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
    return tuple(inputs), tuple(notes)
