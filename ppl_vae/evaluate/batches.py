"""The data of an evaluation, and how many data and particles go through the pair at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ppl_vae.core.checks import check_count
from ppl_vae.core.meeting import meet, rows_to_meet
from ppl_vae.core.missing import takes_missing
from ppl_vae.core.pair import Pair
from ppl_vae.data import Split, as_split, for_pair
from ppl_vae.data.batch import to_batch
from ppl_vae.data.convert import is_tuple_of_arrays
from ppl_vae.data.known_table import of_table
from ppl_vae.data.selection import in_order

# Large enough that Pyro's handlers are a few per cent of the time, small enough for the caches
ELEMENTS = {"cpu": 2**21}
ELEMENTS_ELSEWHERE = 2**26
# The guide's net runs once for each chunk: with this many particles in one, it costs next to nothing
PARTICLES_IN_CHUNK = 256
_FIRST = 1024  # data that a pair meets, where it may have parameters for each of them


class Data(Protocol):
    """What an evaluation asks of data: a `data.Split` has it."""

    def __len__(self) -> int: ...
    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, ...]]: ...


@dataclass(frozen=True)
class Tensors:
    """A tuple of Tensors, each (N, ...), that a pair's programs take in this order, whatever their names."""

    tensors: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.tensors[0])

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        return zip(*(tensor.split(batch_size) for tensor in self.tensors))


def to_data(data: Any, pair: Pair) -> Data:
    """Data for a pair, which has met some of them then.

    Raises:
        ValueError, DataError: as `_to_data`.
    """
    source = _to_data(data, pair)
    for rows in (rows_to_meet(pair) or _FIRST, _FIRST):  # more where a few do not go through the programs
        if not pair.met:
            meet(pair, _first(source, min(len(source), rows)))
    return source


def _first(source: Data, rows: int) -> tuple[Tensor, ...]:
    """The first rows; of a split no others are read."""
    if isinstance(source, Split):
        return source.take(rows, in_order=True).tensors()
    return next(iter(source.batches(rows)))


def _to_data(data: Any, pair: Pair) -> Data:
    """A split, a Tensor, an array, a tuple of these, or whatever `data.as_split` takes, as something that
    gives the batches of the pair's programs on its device.

    Raises:
        ValueError: no rows, or Tensors of different lengths; for anything else, as `data.as_split`.
    """
    if isinstance(data, Tensors):
        return Tensors(tuple(tensor.to(pair.device) for tensor in data.tensors))
    dtypes, missing = pair.batch_dtypes, takes_missing(pair.model)
    if isinstance(data, Tensor) and data.is_floating_point() and dtypes and dtypes[0].is_floating_point:
        data = data.to(dtypes[0])  # a Split keeps float64, which a pair in float32 does not take
    if not is_tuple_of_arrays(tuple(data) if isinstance(data, list) else data):
        split: Data = for_pair(as_split(of_table(data, pair), missing), pair).to(pair.device)
        return split
    shapes = [tuple(tensor.shape) for tensor in data]
    if any(not shape for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
        raise ValueError(f"the data's Tensors must have one length, but their shapes are {shapes}")
    if shapes[0][0] == 0:
        raise ValueError(f"the data is empty: its Tensors have the shapes {shapes}; give at least one row")
    chosen = to_batch(in_order(data, pair), dtypes, missing=missing, floats=pair.dtype)
    return Tensors(tuple(tensor.to(pair.device) for tensor in chosen))


def datum_size(data: Data) -> int:
    """The number of elements of one datum's largest Tensor."""
    if isinstance(data, Tensors):
        return max(math.prod(tensor.shape[1:]) for tensor in data.tensors)
    shapes = data.shapes.values() if isinstance(data, Split) else [getattr(data, "shape", ())]
    return max(math.prod(shape) for shape in shapes)


def plan(
    data: Data, num_particles: int, batch_size: int | None, chunk: int | None, device: torch.device
) -> tuple[int, tuple[int, ...]]:
    """The number of data in a batch, and the sizes of the chunks that its particles come in.

    Raises:
        ValueError: a number that is not a positive whole one.
    """
    for name, value in (("num_particles", num_particles), ("batch_size", batch_size), ("chunk", chunk)):
        if value is not None:
            check_count(name, value)
    rows = max(1, ELEMENTS.get(device.type, ELEMENTS_ELSEWHERE) // max(1, datum_size(data)))
    if batch_size is None:
        batch_size = max(1, rows // min(num_particles, chunk or PARTICLES_IN_CHUNK))
    batch_size = min(batch_size, len(data))
    if chunk is None:
        chunk = max(1, rows // batch_size)
    num_chunks = math.ceil(num_particles / chunk)
    share, longer = divmod(num_particles, num_chunks)
    return batch_size, (share + 1,) * longer + (share,) * (num_chunks - longer)


def size_of(batch: Sequence[Tensor]) -> int:
    """B."""
    return len(batch[0])
