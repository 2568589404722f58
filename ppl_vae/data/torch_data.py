"""torch's `Dataset`s and `DataLoader`s: their rows, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from ppl_vae.data.data_error import DataError

LIMIT = 4 * 2**30
"""Bytes of rows that are kept in memory."""
_TRIED = 16  # rows read twice: a random transformation of two values passes once in 65,536 times

Fields = dict[str, Tensor] | tuple[Tensor, ...]


def dataset_of(loader: DataLoader[Any]) -> Dataset[Any]:
    """The data set that a loader gives batches of. Its batch size and order are not taken over.

    Raises:
        DataError: where its batches are not the rows of its data set, each once.
    """
    kind = type(loader).__name__
    sampler, batches = loader.sampler, loader.batch_sampler
    if isinstance(loader.dataset, IterableDataset):
        raise DataError(_of_iterable(loader.dataset))
    if loader.collate_fn is not default_collate and loader.batch_sampler is not None:
        name = getattr(loader.collate_fn, "__name__", type(loader.collate_fn).__name__)
        raise DataError(
            f"a {kind} whose collate_fn ({name}) makes the batches, of which its data set knows nothing. "
            f"Collect what it makes, x = torch.cat([batch[0] for batch in loader]), and give that"
        )
    plain = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == len(sampler)
    )
    whole = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler and sampler.num_samples == len(loader.dataset)  # type: ignore[arg-type]
    )
    if not (plain and whole) or (batches is not None and type(batches) is not BatchSampler):
        name = type(sampler if not (plain and whole) else batches).__name__
        raise DataError(
            f"a {kind} with a {name}, which chooses or weighs its rows: give the rows that are meant, "
            f"torch.utils.data.Subset(loader.dataset, indices)"
        )
    dataset: Dataset[Any] = loader.dataset
    return dataset


def fields_of(dataset: Any) -> Fields:
    """The fields of all rows, stacked: by name where a row is a dictionary, else in order.

    Raises:
        DataError: rows without number, of different shapes, that are no numbers, or that are others at each
            reading; or more than fit in memory.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise DataError(_of_iterable(dataset))
    if isinstance(dataset, TensorDataset):
        return tuple(dataset.tensors)
    kind = type(dataset).__name__
    try:
        count = len(dataset)
    except (TypeError, NotImplementedError):
        raise DataError(f"a torch Dataset ({kind}) without a length: give its rows, stacked") from None
    if not count:
        raise DataError(f"a torch Dataset ({kind}) is empty; give at least one row")
    names, first = _fields(dataset[0], kind, 0)
    size = count * sum(each.numel() * each.element_size() for each in first)
    if size > LIMIT:
        raise DataError(
            f"a torch Dataset ({kind}) of {size:,} bytes does not fit in memory: write its rows into a file "
            f"once, numpy.lib.format.open_memmap('rows.npy', ...), and give data.load('rows.npy')"
        )
    stacked = [torch.empty((count, *each.shape), dtype=each.dtype) for each in first]
    for row in range(count):
        found, fields = _fields(dataset[row], kind, row)
        for name, into, each in zip(names, stacked, fields):
            if found != names or each.shape != into.shape[1:] or each.dtype != into.dtype:
                raise DataError(
                    f"a torch Dataset ({kind}): {name} of row {row} is {tuple(each.shape)}, {each.dtype}, "
                    f"of row 0 {tuple(into.shape[1:])}, {into.dtype}: pad or resize them to one shape, "
                    f"and give the lengths as an array of their own"
                )
            into[row] = each
    for row in range(0, count, max(1, count // _TRIED)):
        if any(not _same(a[row], b) for a, b in zip(stacked, _fields(dataset[row], kind, row)[1])):
            raise DataError(
                f"a torch Dataset ({kind}) whose row {row} is another at each reading: leave the random "
                f"transformation out, or read the rows once, torch.stack([row[0] for row in dataset])"
            )
    return dict(zip(names, stacked)) if isinstance(dataset[0], Mapping) else tuple(stacked)


def _fields(row: Any, kind: str, number: int) -> tuple[tuple[str, ...], list[Tensor]]:
    """The fields of one row with their names, which are their places where it has none."""
    if isinstance(row, Mapping):
        named: dict[str, Any] = dict(row)
    elif isinstance(row, Sequence) and not isinstance(row, str | bytes):
        named = {f"field {place}": field for place, field in enumerate(row)}
    else:
        named = {"field 0": row}
    return tuple(named), [_tensor(field, f"row {number}, {name}", kind) for name, field in named.items()]


def _tensor(field: Any, where: str, kind: str) -> Tensor:
    if isinstance(field, Tensor):
        return field.detach()
    module = type(field).__module__.partition(".")[0]
    if isinstance(field, np.ndarray | np.generic | bool | int | float) or module == "builtins":
        try:
            return torch.as_tensor(np.asarray(field) if isinstance(field, np.generic) else field)
        except (TypeError, ValueError, RuntimeError):
            pass
    way = "transform=torchvision.transforms.ToTensor()" if module == "PIL" else "a tensor or a number of it"
    raise DataError(f"a torch Dataset ({kind}): {where} is no tensor but {type(field).__name__}: give {way}")


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | (one != one) & (other != other)).all())  # NaN is named later


def _of_iterable(dataset: Any) -> str:
    return (
        f"an iterable Dataset ({type(dataset).__name__}) is used up by reading, and an epoch needs its rows "
        f"again: read them once, x = torch.stack(list(dataset)), or write them into a file for data.load"
    )
