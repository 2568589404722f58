"""The kind of a table's column: guessed from its cells, or as the user says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ppl_vae.data.cells import Cells
from ppl_vae.data.column import KINDS, LARGEST_COUNT, LEVELLED, Column
from ppl_vae.data.data_error import DataError
from ppl_vae.data.guess_faults import marks, refuse_odd, refuse_row_numbers, refuse_texts
from ppl_vae.data.one_cell import Value, number_of, plain

FEW_LEVELS = 10  # whole numbers of so few values are taken for levels
CHOOSABLE = tuple(kind for kind in KINDS if kind not in ("constant", "left out"))

Choice = str | Sequence[Value] | None
"""A kind, the levels of an ordinal column in their order, or None to leave the column out."""


def guessed(cells: Cells) -> Column:
    """The column with the kind that its cells suggest.

    A column headed `label` holds the labels. Two values are a category, as are texts; whole numbers of up to
    ten values are ordinal, others that begin at 0 or 1 counts; other numbers are numeric.

    Raises:
        DataError: for a column that suggests nothing: empty, numbers and texts together, as many texts as an
            identifier has, or the numbers of the rows.
    """
    distinct = cells.distinct()
    if not distinct:
        raise DataError(
            f"column {cells.name!r} is empty: leave it out, columns={{{cells.name!r}: None}}{marks(cells)}"
        )
    if cells.name.strip().lower() == "label":
        return column_of(cells, "label")
    if len(distinct) == 1:
        return _made(cells, "constant", distinct)
    if cells.order:
        return column_of(cells, "ordinal")
    if not cells.is_numeric:
        refuse_odd(cells)
        refuse_texts(cells, len(distinct))
        return column_of(cells, "category")
    if len(distinct) == 2:
        return column_of(cells, "category")
    seen = cells.seen.astype(np.float64)
    if not (seen == np.floor(seen)).all():
        return column_of(cells, "numeric")
    refuse_row_numbers(cells)
    if len(distinct) <= FEW_LEVELS and 3 * len(distinct) <= len(seen):
        return column_of(cells, "ordinal")
    return column_of(cells, "count" if seen.min() in (0, 1) and seen.max() <= LARGEST_COUNT else "numeric")


def column_of(cells: Cells, choice: Choice) -> Column:
    """The column as the user says it is.

    Raises:
        DataError: for a kind that is none, or that the cells cannot have.
    """
    if choice is None:
        return _made(cells, "left out")
    if not isinstance(choice, str):
        return _with_levels(cells, choice)
    if choice not in CHOOSABLE:
        raise DataError(
            f"columns={{{cells.name!r}: {choice!r}}}: a column is one of {', '.join(CHOOSABLE)}, a list of "
            f"the levels of an ordinal one in their order, or None, which leaves it out"
        )
    levels: tuple[Value, ...] = ()
    if choice in (*LEVELLED, "label"):
        levels = cells.order or cells.distinct()
        texts = any(isinstance(level, str) for level in levels)
        if choice == "ordinal" and texts and not cells.order:
            raise DataError(
                f"column {cells.name!r} is ordinal, and of texts the order is not known: give the levels in "
                f"it, columns={{{cells.name!r}: {list(levels)!r:.60}}}"
            )
        if choice in LEVELLED and len(levels) < 2:
            raise DataError(
                f"column {cells.name!r} is {choice} and has {len(levels)} values: leave it out, "
                f"columns={{{cells.name!r}: None}}"
            )
    return _made(cells, choice, levels)


def _with_levels(cells: Cells, choice: Sequence[Any]) -> Column:
    plain_levels = all(isinstance(level, str | int | float) for level in choice)
    levels = tuple(plain(level) for level in choice) if plain_levels else ()
    if cells.is_numeric:  # the command line gives texts
        spelled = [number_of(level) if isinstance(level, str) else level for level in levels]
        levels = tuple(plain(level) for level in spelled if level is not None)
    if len(levels) < 2 or len(set(levels)) < len(levels):
        raise DataError(
            f"columns={{{cells.name!r}: {choice!r:.80}}}: the levels of an ordinal column are two or more "
            "texts or numbers, each of them once, in their order"
        )
    return _made(cells, "ordinal", levels)


def _made(cells: Cells, kind: str, levels: tuple[Value, ...] = ()) -> Column:
    column = Column(cells.name, kind, levels, missing=int(cells.missing.sum()), marks=cells.marks)
    if kind == "left out":
        return column
    column.encode(cells) if kind != "constant" else None  # what does not fit is named here
    if cells.is_numeric and not levels and not cells.missing.all():
        return Column(
            cells.name,
            kind,
            low=float(cells.seen.min()),
            high=float(cells.seen.max()),
            missing=column.missing,
            marks=cells.marks,
        )
    return column
