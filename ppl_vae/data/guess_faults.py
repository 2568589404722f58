"""Columns that suggest no kind: each is refused with the ways out."""

from __future__ import annotations

import re

import numpy as np

from ppl_vae.data.cells import Cells
from ppl_vae.data.data_error import DataError

FEW_TEXTS, SHARE_OF_TEXTS = 30, 0.1  # texts of more values than both are no categories
FEW_ROWS = 10  # of fewer, nothing is concluded
WRITTEN = (
    (
        r"[-+]?\d+(\.\d{3})*,\d+|[-+]?\d{1,3}(,\d{3})+(\.\d*)?",
        "numbers with a comma",
        "read the file by pandas.read_csv(path, sep=..., decimal=',') or (..., thousands=','), and give "
        "data.table(frame)",
    ),
    (
        r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?",
        "dates",
        "make a number of them, such as the days since a first one, or leave the column out",
    ),
    (
        r"[^\w\s.,+-]\s?[-+]?[\d.,]+|[-+]?[\d.,]+\s?[^\w\s.,+-]",
        "numbers with a sign beside them",
        "take it away, frame[name].str.strip('%$').astype(float), or make the column a category",
    ),
)  # texts that are neither names nor categories: how they are written, what they are, and the way out


def marks(cells: Cells) -> str:
    """What was taken for missing, as the end of an error."""
    return f"; {', '.join(map(repr, cells.marks))} was taken for missing" if cells.marks else ""


def refuse_odd(cells: Cells) -> None:
    """Raise DataError for a text among numbers."""
    if cells.odd is not None:
        value = cells.values[cells.odd]
        raise DataError(
            f"column {cells.name!r} holds numbers, and {cells.where(cells.odd)} holds {value!r}: mend it, "
            f"say that it is missing, missing=[{value!r}], or that the column is a category, "
            f"columns={{{cells.name!r}: 'category'}}"
        )


def refuse_texts(cells: Cells, distinct: int) -> None:
    """Raise DataError for texts that are no categories."""
    number = len(cells.seen)
    texts = [text for text in cells.seen.tolist() if isinstance(text, str)]
    for pattern, what, fix in WRITTEN:
        if len(texts) == number and all(re.fullmatch(pattern, text) for text in texts):
            raise DataError(f"column {cells.name!r} holds {what}, such as {texts[0]!r}: {fix}")
    if distinct > max(FEW_TEXTS, SHARE_OF_TEXTS * number) or (distinct == number and number > FEW_ROWS):
        raise DataError(
            f"column {cells.name!r} holds {distinct} different texts in {number} rows, as names do: leave it "
            f"out, columns={{{cells.name!r}: None}}, or make it a category, columns={{{cells.name!r}: "
            f"'category'}}"
        )


def refuse_row_numbers(cells: Cells) -> None:
    """Raise DataError for whole numbers that count the rows."""
    seen = cells.seen.astype(np.float64)
    if len(seen) >= FEW_ROWS and not cells.missing.any() and (np.diff(seen) == 1).all():
        raise DataError(
            f"column {cells.name!r} holds the numbers of the rows, from {seen[0]:g} on: leave it out, "
            f"columns={{{cells.name!r}: None}}, or say what it is, columns={{{cells.name!r}: 'numeric'}}"
        )
