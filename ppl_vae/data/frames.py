"""Frames of pandas, Polars, Arrow and their like: columns of numbers as one array, through Narwhals."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np

from ppl_vae.data.data_error import DataError


def is_frame(data: Any) -> bool:
    """Whether this is a frame that Narwhals knows, a lazy one too."""
    return bool(nw.dependencies.is_into_dataframe(data)) or _is_lazy(data)


def is_column(data: Any) -> bool:
    """Whether this is one column of such a frame."""
    return bool(nw.dependencies.is_into_series(data))


def to_columns(frame: Any, what: str, missing: bool = False) -> tuple[np.ndarray, tuple[str, ...]]:
    """The columns of a frame as one array `(N, D)`, and their names in order.

    Args:
        frame: of any kind that Narwhals knows.
        what: what errors call it.
        missing: take missing values, as NaN.

    Raises:
        DataError: a lazy frame, no columns or rows, or a column that is not numbers or lacks values.
    """
    kind = f"{type(frame).__module__.partition('.')[0]} {type(frame).__name__}"
    if _is_lazy(frame):
        raise DataError(f"{what}: a lazy frame ({kind}) is not read yet: give frame.collect()")
    try:
        table = nw.from_native(frame, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise DataError(f"{what}: a frame ({kind}) with two columns of one name: rename one") from error
    if not len(table) or not table.columns:
        raise DataError(f"{what}: a frame ({kind}) of shape {table.shape} holds no data")
    columns = list(table.iter_columns())  # by place: pandas' names may be numbers
    for name, column in zip(table.columns, columns):
        numbers = column.dtype.is_numeric() or column.dtype == nw.Boolean
        if not numbers:
            raise DataError(
                f"{what}: column {name!r} is no numbers but {column.dtype}: data.table(frame) takes columns "
                f"of text and categories, or give the others, frame.drop(columns=[{name!r}])"
            )
        if not missing and (column.is_null().any() or (column.dtype.is_float() and column.is_nan().any())):
            raise DataError(
                f"{what}: column {name!r} lacks values: data.table(frame) takes missing values, or leave "
                f"their rows out"
            )
    # the bytes of a column are numbers and no pixels, which would be divided by 255
    if missing:
        columns = [column.cast(nw.Float64) for column in columns]  # what is missing is NaN there
    values = [_widened(column.to_numpy()) for column in columns]
    return np.stack(values, 1), tuple(map(str, table.columns))


def _widened(column: np.ndarray) -> np.ndarray:
    return (
        column
        if column.dtype.kind == "b"
        else column.astype(np.float64 if column.dtype.kind == "f" else np.int64)
    )


def _is_lazy(data: Any) -> bool:
    return bool(nw.dependencies.is_narwhals_lazyframe(data) or nw.dependencies.is_polars_lazyframe(data)) or (
        type(data).__module__.partition(".")[0] in ("dask", "dask_expr", "duckdb", "ibis")
        and hasattr(data, "columns")
    )
