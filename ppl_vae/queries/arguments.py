"""What users pass to queries, checked: batches and sites."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.core.meeting import meet
from ppl_vae.core.missing import takes_missing
from ppl_vae.core.pair import Pair
from ppl_vae.data import as_split, for_pair
from ppl_vae.data.array_checks import to_float32
from ppl_vae.data.batch import to_batch
from ppl_vae.data.convert import is_several, is_tuple_of_arrays
from ppl_vae.data.data_error import DataError
from ppl_vae.data.foreign import to_array
from ppl_vae.data.known_table import of_table
from ppl_vae.data.selection import in_order

Batch = Tensor | Sequence[Tensor]

_IN_MEMORY = 2**30  # bytes that a batch may take which is read from elsewhere


def as_tensors(pair: Pair, batch: Batch) -> tuple[Tensor, ...]:
    """A batch as tensors on the pair's device, of the types that its programs take,
    with a data dim of one length.

    Raises:
        ValueError: for what is no batch; for a NaN or an infinity, naming the datum.
    """
    items = converted(pair, batch)
    if pair.datum_spec and len(items) != len(pair.datum_spec):
        raise ValueError(f"this pair's batches are {len(pair.datum_spec)} tensors, got {len(items)}")
    for item, (shape, _) in zip(items, pair.datum_spec):
        if item.dim() != len(shape) + 1:
            raise ValueError(
                f"expected a batch of shape {spelled(['n', *shape])}, got {tuple(item.shape)}; "
                f"x[None] makes a batch of a single datum"
            )
    lengths = {len(item) if item.dim() else 0 for item in items}
    if len(lengths) != 1 or 0 in lengths:
        shapes = [tuple(item.shape) for item in items]
        raise ValueError(f"the tensors of a batch must have the same, positive length, got shapes {shapes}")
    meet(pair, items)
    return items


def converted(pair: Pair, batch: Any) -> tuple[Tensor, ...]:
    """Tensors and arrays as a data set would give them (`data.batch.to_batch`), whatever their number; or all
    rows of one thing that holds several arrays, such as a `Split` or a dictionary."""
    missing = takes_missing(pair.model)
    items = unpacked(pair, batch, missing)
    batch = to_batch(items, pair.batch_dtypes, missing=missing, floats=pair.dtype)
    return tuple(item.to(pair.device) for item in batch)


def unpacked(pair: Pair, batch: Any, missing: bool) -> tuple[Any, ...]:
    """The arrays of a batch as they are, those of one thing that holds several in the programs' order.

    Args:
        missing: whether NaN there is a value that nobody knows.
    """
    items = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    if not items:
        raise ValueError("a batch is a tensor, or the tensors that the programs take, got nothing")
    if len(items) != 1 or not is_several(items[0]):
        return items
    data = items[0]
    if is_tuple_of_arrays(data):
        return in_order(data, pair)
    split = for_pair(as_split(of_table(data, pair), missing), pair)
    size = 4 * len(split) * sum(math.prod(shape) for shape in split.shapes.values())
    if not split.resident and size > _IN_MEMORY:
        raise ValueError(
            f"a question is asked of a batch that is in memory, got {split!r}, which takes {size:,} bytes: "
            f"take some of its rows, split[:100].tensors()"
        )
    return split.tensors()


def with_missing(pair: Pair, batch: Any) -> list[Tensor]:
    """The tensors of a batch as they are, NaN where a value is missing, taken by the programs or not.

    Raises:
        DataError: for what is no array of numbers.
    """
    found = []
    for each in unpacked(pair, batch, missing=True):
        array = to_array(each, "the batch")
        if isinstance(array, Tensor):
            found.append(array)
            continue
        if array.dtype.kind not in "buif":
            raise DataError(f"the batch: values of type {array.dtype} are not numbers; convert them first")
        # a list has no type of its own, and is taken as a data set takes it
        of_list = not isinstance(each, np.ndarray) and array.dtype.kind == "f"
        found.append(_own(to_float32(array) if of_list else array))
    return found


def tensor_of(value: Any) -> Tensor:
    """A user's numbers as a tensor; a column of a frame goes by the order of its rows.

    Raises:
        TypeError, ValueError, RuntimeError: for what is no array of numbers.
    """
    return value if isinstance(value, Tensor) else _own(np.asarray(value))


def _own(array: np.ndarray) -> Tensor:
    """As a tensor, which torch makes of arrays that may be written to."""
    return torch.as_tensor(array if array.flags.writeable else array.copy())


def spelled(shape: Iterable[int | str]) -> str:
    """A shape in which some sizes are names."""
    return "(" + ", ".join(map(str, shape)) + ")"


def rows(pair: Pair, n: int, like: Batch | None, given: Sequence[str]) -> tuple[Tensor, ...]:
    """n rows to call the programs with: those of `like` again and again, or zeros."""
    if like is None:
        if given:
            raise ValueError(f"given={list(given)} needs the data to hold: pass them as like=")
        blank = pair.blank_batch(n)
        meet(pair, blank)
        return blank
    tensors = as_tensors(pair, like)
    index = torch.arange(n, device=pair.device) % len(tensors[0])
    return tuple(tensor[index] for tensor in tensors)


def check_site(name: str, sites: Iterable[str]) -> None:
    """Raise ValueError unless a latent site is one of these."""
    if name not in sites:
        raise ValueError(f"there is no latent site {name!r}: the latent sites are {list(sites)}")
