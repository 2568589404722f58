"""Metrics as a table of text: every bit of a float survives."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

LARGEST_TABLE = 2**28
"""Bytes of a table that is read: a million epochs have fewer."""


def table_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV; the columns are their keys, in the order of first appearance."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, lineterminator="\n")
    if columns:
        table.writeheader()
        table.writerows({key: _number(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def parsed_table(text: str) -> pd.DataFrame:
    """A table of `table_text`; floats are the bits that were written.

    Raises:
        ValueError, csv.Error: when it is no table.
    """
    header, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    columns = [_column(texts) for texts in zip(*rows, strict=True)] if rows else [[] for _ in header]
    return pd.DataFrame(dict(zip(header, columns, strict=True)))


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _column(texts: Sequence[str]) -> list[Any]:
    """Numbers where all of a column are; Python's parser gives every bit back, whichever pandas is there."""
    try:
        return [int(text) for text in texts]
    except ValueError:
        pass
    try:
        return [float(text or "nan") for text in texts]
    except ValueError:
        return [text or None for text in texts]
