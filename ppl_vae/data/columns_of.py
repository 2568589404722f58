"""The columns of what holds a table: a frame of pandas, Polars or Arrow, or a dictionary of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ppl_vae.data.data_error import DataError
from ppl_vae.data.one_cell import Value, plain


class GivenColumn(NamedTuple):
    """A column's values, and its levels where it came with an order of its own."""

    values: Sequence[Any] | np.ndarray
    order: tuple[Value, ...] = ()


def columns_of(data: Any) -> dict[str, GivenColumn]:
    """The columns of a table by name.

    Raises:
        DataError: for what is no table, for columns of unequal length, and for a table without rows.
    """
    if isinstance(data, Mapping):
        found = {str(name): GivenColumn(_values(name, values)) for name, values in data.items()}
    else:
        found = _of_frame(data)
    lengths = {name: len(column.values) for name, column in found.items()}
    if not found or 0 in lengths.values():
        raise DataError("the table is empty: give at least one row and one column")
    if len(set(lengths.values())) > 1:
        raise DataError(f"the columns have unequal lengths, {lengths}: give one value for each row")
    return found


def _of_frame(data: Any) -> dict[str, GivenColumn]:
    import narwhals as nw  # not at the top, as pandas

    try:
        frame = nw.from_native(data, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise DataError("two columns of the frame have one name: rename one of them") from error
    except TypeError as error:
        kind = type(data).__name__
        fix = "frame.collect()" if hasattr(data, "collect") else "pandas.DataFrame(x, columns=[...])"
        raise DataError(
            f"a table is a frame of pandas, Polars or Arrow, or a dictionary of columns, and not a {kind}: "
            f"give {fix}"
        ) from error
    names = list(map(str, frame.columns))
    # by place: names may be numbers
    return {name: _of_series(frame[:, place]) for place, name in enumerate(names)}


def _of_series(series: Any) -> GivenColumn:
    order: tuple[Value, ...] = ()
    if series.dtype.is_numeric() and not series.dtype.is_decimal() and not series.is_null().any():
        return GivenColumn(series.to_numpy())
    if type(series.dtype).__name__ == "Enum":
        order = tuple(plain(level) for level in series.dtype.categories)
    return GivenColumn(series.to_list(), order)


def _values(name: Any, values: Any) -> Sequence[Any] | np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    if hasattr(values, "to_list") and not isinstance(values, list):  # a column of a frame
        return list(values.to_list())
    if isinstance(values, np.ma.MaskedArray) and values.ndim == 1:
        return [None if gone else value for value, gone in zip(values.data, np.ma.getmaskarray(values))]
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values
    if isinstance(values, list | tuple | range) and not any(
        isinstance(each, list | tuple) for each in values
    ):
        return list(values)
    shape = getattr(values, "shape", None)
    found = f"an array of shape {tuple(shape)}" if shape is not None else f"a {type(values).__name__}"
    raise DataError(
        f"column {name!r} is {found}: a table's column is one value for each row, (N,); give the columns of "
        "a matrix one by one"
    )
