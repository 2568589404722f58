"""`as_split`: whatever holds data, as a `Split`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ppl_vae.data import annotated, frames, labelled
from ppl_vae.data.data_error import DataError
from ppl_vae.data.dataset import DataSet
from ppl_vae.data.naming import Naming, assembled, rows_of, store_in_order
from ppl_vae.data.sparse import is_sparse
from ppl_vae.data.split import Split, of_stored
from ppl_vae.data.torch_data import dataset_of, fields_of


def as_split(data: Any, missing: bool = False) -> Split:
    """`data` itself if it is a Split, else one that is made of it.

    - a Tensor, an array, a list of numbers: `x`;
    - a tuple of arrays: `x`, then `y` where it is class numbers, then arrays that go by their places alone;
    - a dictionary of arrays: arrays by these names;
    - a map-style torch `Dataset`, or a `DataLoader` of one: the fields of its rows, as a tuple or dictionary;
    - a frame of pandas, Polars or Arrow, of numbers: `x`, (N, D), a column each;
    - a sparse matrix of SciPy: `x`, whose rows become dense a batch at a time;
    - an xarray `DataArray`, or `Dataset`: `x`, or its variables by name;
    - an AnnData: its X as `x`, and the columns of obs and the layers, which a program may take by name.

    Args:
        data: see above.
        missing: NaN is a value that nobody knows, for programs that take it.

    Raises:
        DataError: anything else, with the line that converts it; as `Split.from_tensor`; a whole data set.
    """
    if isinstance(data, Split):
        return data
    if isinstance(data, DataSet):
        raise DataError("a whole data set was given; give one of its parts, for example data.test")
    if isinstance(data, DataLoader):
        data = dataset_of(data)
    if isinstance(data, Dataset):
        fields = fields_of(data)
        if isinstance(fields, tuple):
            kept = store_in_order(fields, missing, by_place=isinstance(data, TensorDataset))
            return of_stored(kept, missing=missing)
        data = fields
    if annotated.is_annotated(data):
        return _annotated(data)
    if labelled.is_labelled(data):
        data = labelled.to_arrays(data)
    if frames.is_frame(data):
        x, columns = frames.to_columns(data, "the data", missing)
        whole = Split.from_tensor(x, missing=missing)
        return replace(whole, naming=replace(whole.naming, columns=columns))
    if is_sparse(data):  # before dictionaries: SciPy's dok_matrix is one
        return of_stored(store_in_order([data]))
    if isinstance(data, Mapping):
        return Split.from_tensors(data, missing=missing)
    if is_tuple_of_arrays(data):
        return of_stored(store_in_order(data, missing), missing=missing)
    if frames.is_column(data):
        raise DataError("one column of a frame: give a frame of it, column.to_frame()")
    return Split.from_tensor(data, missing=missing)


def is_several(data: Any) -> bool:
    """Whether this is no array itself but something that `as_split` takes arrays from."""
    kinds = Split | DataSet | Mapping | Dataset | DataLoader
    return isinstance(data, kinds) or is_tuple_of_arrays(data) or _is_foreign(data)


def is_tuple_of_arrays(data: Any) -> bool:
    """Whether this is a tuple such as `(x, y)`; a list may be rows."""
    return isinstance(data, tuple) and len(data) > 0 and all(_is_array(each) for each in data)


def _is_array(data: Any) -> bool:
    return isinstance(data, Tensor | np.ndarray) or (
        is_sparse(data) or frames.is_frame(data) or frames.is_column(data)
    )


def _is_foreign(data: Any) -> bool:
    return not isinstance(data, Tensor | np.ndarray) and (
        is_sparse(data) or frames.is_frame(data) or labelled.is_labelled(data) or annotated.is_annotated(data)
    )


def _annotated(data: Any) -> Split:
    """A split of an AnnData, whose batches are its X until a program takes more."""
    arrays, left_out, genes = annotated.to_arrays(data)
    left_out = dict(left_out)
    rows = {"x": rows_of(arrays.pop("x"), "x")}
    for name, array in arrays.items():
        try:
            rows[name] = rows_of(array, name)
        except DataError as error:
            left_out[name] = str(error)
    naming = Naming("x", ("x",), columns=genes, left_out=left_out)
    return of_stored(assembled(rows, naming), labels=False)
