"""Things that hold data and are no array: each is refused with the line that makes one of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.data_error import DataError
from ppl_vae.data.frames import is_frame, to_columns


def to_array(data: Any, what: str) -> Tensor | np.ndarray:
    """A dense Tensor or an array of `data`, if that is one thing: a Tensor, an array, a list of numbers.

    What numpy would make of others is never what was meant: it stacks a tuple `(x, y)`, iterates over a
    torch `Dataset`, and drops the mask of a masked array.

    Raises:
        DataError: for anything else, naming its type and the line that converts it.
    """
    if isinstance(data, Tensor):
        if data.layout is not torch.strided or data.is_nested:
            kind = "nested" if data.is_nested else "sparse"
            fix = "x.to_padded_tensor(0.0), with a mask beside it" if data.is_nested else "x.to_dense()"
            raise DataError(f"{what}: a {kind} Tensor is not taken as it is: give {fix}")
        if data.is_quantized:
            raise DataError(f"{what}: a quantised Tensor is not taken as it is: give x.dequantize()")
        return data
    if isinstance(data, np.ma.MaskedArray):
        raise DataError(
            f"{what}: a masked array would lose its mask: fill it, x.filled(0.0), and give the mask to the "
            f"programs as a tensor of its own, or leave the masked rows out"
        )
    if isinstance(data, np.ndarray):
        return data
    if is_frame(data):
        return to_columns(data, what)[0]
    if isinstance(data, range) or (isinstance(data, list) and _is_numbers(data)):
        return _asarray(data, what)
    if _module(data) not in ("PIL", "builtins") and hasattr(data, "__array__") and not isinstance(data, type):
        return _asarray(data, what)
    raise DataError(f"{what}: {_advice(data)}")


def _asarray(data: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(data)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{what}: a {type(data).__name__} that is no table of numbers ({error}): give rows of one length"
        ) from error


def _is_numbers(data: list[Any]) -> bool:
    """Whether a nested list holds lists and plain values alone, as far as its first entries show."""
    arrays = (Tensor, np.ndarray, torch.utils.data.Dataset, Mapping)
    if any(isinstance(entry, arrays) for entry in data):
        return False
    first: Any = data
    while isinstance(first, list | tuple) and len(first):
        first = first[0]
    return isinstance(first, bool | int | float | str | complex | np.generic | list | tuple)


def _advice(data: Any) -> str:
    """What this is, and the line that makes an array of it."""
    kind, module = type(data).__name__, _module(data)
    if isinstance(data, type):
        return f"the class {data.__name__} is no data: give an object of it, or an array"
    if module == __package__.partition(".")[0]:  # a Split or a DataSet: made of what is checked here
        return f"this is a {kind} already: use it as it is, or give its tensors, split.tensors()"
    if isinstance(data, str | os.PathLike):
        return (
            f"{os.fspath(data)!r} is the name of data and not the data: give data.load({os.fspath(data)!r})"
        )
    if isinstance(data, tuple | list):
        return _several(data)
    if isinstance(data, Mapping):
        names = list(data)[:5]
        first = names[0] if names else "x"
        return f"a {kind} of {names} is no array: give its entries, x = d[{first!r}], and class labels as y"
    if isinstance(data, torch.utils.data.DataLoader):
        return (
            f"a {kind} gives batches and is no array: give its rows, x = torch.cat([batch[0] for batch in "
            f"loader]), and class labels likewise, y = torch.cat([batch[1] for batch in loader])"
        )
    if isinstance(data, torch.utils.data.TensorDataset):
        return f"a {kind} is no array: give its tensors, data.from_tensors(*dataset.tensors)"
    if isinstance(data, torch.utils.data.Dataset):
        return (
            f"a torch Dataset ({kind}) is no array: stack its rows, x = torch.stack([row[0] for row in "
            f"dataset]), and class labels likewise, y = torch.tensor([row[1] for row in dataset])"
        )
    if hasattr(data, "toarray") and hasattr(data, "nnz"):
        return f"a sparse matrix ({kind}) is no array: give x.toarray()"
    if module == "anndata":
        return (
            "an AnnData is no array: give its counts, adata.X, as an array: adata.X.toarray() where they "
            "are sparse"
        )
    if module == "datasets":
        return f"a {kind} of Hugging Face is no array: give dict(dataset.with_format('numpy')[:])"
    if module == "PIL":
        return (
            f"one picture ({kind}) is no data set: stack them, numpy.stack([numpy.asarray(p) for p in "
            "pictures])"
        )
    if isinstance(data, Iterator):
        return f"a {kind} is used up by reading: give x = torch.stack(list(rows))"
    return (
        f"an object of type {kind} is no array of numbers: give a numpy array or a Tensor, (N, D) or (N, C, "
        "H, W)"
    )


def _several(data: tuple[Any, ...] | list[Any]) -> str:
    kind = type(data).__name__
    plain = (Tensor, np.ndarray, list, tuple, bool, int, float, str)
    for entry in data:
        if not isinstance(entry, plain) and not hasattr(entry, "__array__"):
            return _advice(entry)
    entries = ", ".join(_named(entry) for entry in data[:4]) + (", ..." if len(data) > 4 else "")
    return (
        f"a {kind} of {len(data)} ({entries}) may be rows or things of different meaning, so it is not "
        "stacked. Class labels go beside the data: data.Split.from_tensor(x, y, labels=True), or "
        "data.from_tensors(x, y, labels=True). Rows become one tensor by torch.stack(rows), and several "
        f"tensors of a datum by torch.cat, to be taken apart in the programs"
    )


def _named(entry: Any) -> str:
    shape = getattr(entry, "shape", None)
    return type(entry).__name__ + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else "")


def _module(data: Any) -> str:
    return type(data).__module__.partition(".")[0]
