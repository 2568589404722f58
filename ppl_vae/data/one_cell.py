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

LARGEST_WHOLE = 2**53
"""Beyond it a float64 takes several whole numbers for one."""

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
    """Whether a number would lose digits of a text: of a postcode that begins with a zero, of an identifier
    of many.

    >>> [is_code(text) for text in ("00501", "0", "0.5", "-07", "9007199254740993")]
    [True, False, False, True, True]
    """
    digits = text.lstrip("+-")
    if digits[:1] == "0":
        return len(digits) > 1 and digits[1].isdigit()
    return len(digits) > 15 and digits.isdecimal() and int(digits) > LARGEST_WHOLE


def too_large(name: str, where: str, value: int) -> DataError:
    """The error of a whole number that no float64 holds."""
    return DataError(
        f"column {name!r}: {where} holds {value}, and beyond 2**53 several whole numbers become one: make "
        f"texts of them where they are identifiers, or leave the column out, columns={{{name!r}: None}}"
    )


def read_cell(value: Any, name: str, row: int, where: Where) -> str | float | bool | None:
    """None for a missing value, else a text, a float or a truth value."""
    if value is None or value is np.ma.masked:
        return None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Real | np.number) and not isinstance(value, complex | np.complexfloating):
        if isinstance(value, int | np.integer) and abs(int(value)) > LARGEST_WHOLE:
            raise too_large(name, where(row), int(value))
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
