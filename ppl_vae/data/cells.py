"""A table's cells as they are given: numbers, texts or truth values, and which of them are missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppl_vae.data.data_error import DataError
from ppl_vae.data.one_cell import (
    LARGEST_WHOLE,
    MARKS,
    Value,
    Where,
    is_code,
    number_of,
    plain,
    read_cell,
    row_number,
    too_large,
)


@dataclass(frozen=True, eq=False)
class Cells:
    """One column as it was given.

    Attributes:
        name: of the column.
        values: the cells `(N,)`: float64 of a column of numbers, else objects.
        missing: which of them are missing, `(N,)`.
        is_numeric: whether the seen cells are numbers.
        marks: the texts that were taken for a missing value.
        order: the levels of a column that came with an order of its own; empty for others.
        odd: the row of a text in a column of numbers, or None.
        where: what errors call a row.
    """

    name: str
    values: NDArray[Any]
    missing: NDArray[np.bool_]
    is_numeric: bool
    marks: tuple[str, ...] = ()
    order: tuple[Value, ...] = ()
    odd: int | None = None
    where: Where = row_number

    @property
    def seen(self) -> NDArray[Any]:
        """The cells that are not missing."""
        seen: NDArray[Any] = self.values[~self.missing]
        return seen

    def distinct(self) -> tuple[Value, ...]:
        """The values that occur, in order: numbers by size, texts by the alphabet."""
        if self.is_numeric:
            return tuple(plain(value) for value in np.unique(self.seen).tolist())
        found = {plain(value) for value in set(self.seen.tolist())}
        return tuple(sorted(found, key=lambda value: (isinstance(value, str), value)))


def to_cells(
    name: str,
    given: Sequence[Any] | NDArray[Any],
    marks: Iterable[str | float] = MARKS,
    order: tuple[Value, ...] = (),
    where: Where = row_number,
) -> Cells:
    """One column of values of any plain type.

    Args:
        marks: texts, and numbers such as -999, that stand for a missing value.

    Raises:
        DataError: a date, an infinite number, or a value that is neither a number nor a text.
    """
    texts = {str(mark).strip() for mark in marks} | {""}
    numbers = {value for mark in texts if (value := number_of(mark)) is not None}
    if isinstance(given, np.ndarray) and given.dtype.kind in "iuf":
        _check_exact(name, given, where)
        return _of_numbers(name, given.astype(np.float64), numbers, order, where)
    known: dict[str, str | None] = {}  # what a text is: most of them come many times
    values: list[Any] = []
    found: dict[str, None] = {}
    for row, value in enumerate(given):
        if type(value) is str and value in known:
            values.append(known[value])
            continue
        cell = read_cell(value, name, row, where)
        if isinstance(cell, str) and (cell in texts or number_of(cell) in numbers):
            found[cell] = None
            cell = None
        elif type(cell) is float and cell in numbers:
            found[f"{cell:g}"] = None
            cell = None
        if type(value) is str:
            known[value] = cell  # type: ignore[assignment]  # of a text: a text or None
        values.append(cell)
    missing = np.array([value is None for value in values], dtype=bool)
    shown = tuple(mark for mark in found if mark)
    spelled = {text: number_of(text) for text in known.values() if text is not None}
    kinds = {type(value) for value in values if value is not None}
    codes = any(is_code(text) for text in spelled)
    if kinds and bool not in kinds and None not in spelled.values() and not codes:
        parsed = [math.nan if value is None else spelled.get(value, value) for value in values]
        array = np.array(parsed, dtype=np.float64)
        _check_finite(name, array, where)
        return Cells(name, array, missing, True, shown, order, None, where)
    objects = np.empty(len(values), dtype=object)
    objects[:] = [plain(value) if type(value) is float else value for value in values]
    texts_only = [row for row, value in enumerate(values) if spelled.get(value, 0) is None]
    odd = texts_only[0] if 0 < len(texts_only) < int((~missing).sum()) else None
    return Cells(name, objects, missing, False, shown, order, odd, where)


def _of_numbers(
    name: str, array: NDArray[np.float64], marks: set[float], order: tuple[Value, ...], where: Where
) -> Cells:
    """A column that came as numbers, all at once."""
    marked = np.isin(array, list(marks))
    found = tuple(f"{value:g}" for value in np.unique(array[marked]))
    array = np.where(marked, math.nan, array)
    _check_finite(name, array, where)
    return Cells(name, array, np.isnan(array), True, found, order, None, where)


def unread(name: str, count: int) -> Cells:
    """A column that is left out, whatever it holds: no cell of it is looked at."""
    return Cells(name, np.full(count, None, dtype=object), np.zeros(count, dtype=bool), False)


def _check_exact(name: str, array: NDArray[Any], where: Where) -> None:
    """Whole numbers that several of which would become one."""
    if array.dtype.kind == "f" or array.dtype.itemsize < 8:
        return
    large = (array > LARGEST_WHOLE) | (array < -LARGEST_WHOLE)
    if large.any():
        row = int(large.argmax())
        raise too_large(name, where(row), int(array[row]))


def _check_finite(name: str, array: NDArray[np.float64], where: Where) -> None:
    if np.isinf(array).any():
        row = int(np.isinf(array).argmax())
        raise DataError(
            f"column {name!r}: {where(row)} holds an infinite value; replace it, or leave the cell empty "
            "where it is missing"
        )
