"""One cell of a table: a number, a text, a truth value, or missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

from ppl_vae.data.data_error import DataError

MARKS = ("NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None", "?")
"""Texts that stand for a missing value, besides an empty one, None and NaN."""

Value = str | int | float | bool
Where = Callable[[int], str]


def row_number(row: int) -> str:
    """A row of a frame or of arrays, as errors call it."""
    return f"row {row}"


def plain(value: Any) -> Value:
    """A cell's value as a plain one; a whole float is an int."""
    if isinstance(value, str | bool):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    number = float(value)
    return int(number) if number.is_integer() else number


def number_of(text: str) -> float | None:
    """The number that a text spells; None for another text, and for NaN."""
    try:
        number = math.nan if "_" in text else float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def is_code(text: str) -> bool:
    """Whether a text of digits begins with a zero that a number would lose, as postcodes do.

    >>> [is_code(text) for text in ("00501", "0", "0.5", "-07")]
    [True, False, False, True]
    """
    digits = text.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()


def read_cell(value: Any, name: str, row: int, where: Where) -> str | float | bool | None:
    """None for a missing value, else a text, a float or a truth value."""
    if value is None or value is np.ma.masked:
        return None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Real | np.number) and not isinstance(value, complex | np.complexfloating):
        return None if value != value else float(value)
    kind = type(value).__name__
    is_time = isinstance(value, np.datetime64 | np.timedelta64)
    if kind in ("NAType", "NaTType") or (is_time and np.isnat(value)):
        return None
    if hasattr(value, "isoformat") or is_time:
        raise DataError(
            f"column {name!r}: {where(row)} holds a date or a time ({value}): make a number of it, such as "
            f"the days since a first one, or leave the column out, columns={{{name!r}: None}}"
        )
    if hasattr(value, "__float__") and not hasattr(value, "__len__"):
        return float(value)
    raise DataError(
        f"column {name!r}: {where(row)} holds a {kind}, which is neither a number nor a text: convert it, or "
        f"leave the column out, columns={{{name!r}: None}}"
    )
