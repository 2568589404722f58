"""`table`: a data set of a frame's columns, with a schema that is guessed, shown and can be overruled."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ppl_vae.data.cells import Cells, to_cells, unread
from ppl_vae.data.column import Column
from ppl_vae.data.columns_of import columns_of
from ppl_vae.data.data_error import DataError
from ppl_vae.data.dataset import DataSet, Loaded, Part, assemble, with_few_labels
from ppl_vae.data.division import Division
from ppl_vae.data.guess import Choice, column_of, guessed
from ppl_vae.data.one_cell import MARKS
from ppl_vae.data.rows import ResidentRows
from ppl_vae.data.schema import Schema
from ppl_vae.data.split import Split

Columns = Mapping[str, Choice]


def table(
    frame: Any,
    columns: Columns | None = None,
    *,
    standardise: bool = True,
    missing: Iterable[str | float] = MARKS,
    name: str = "table",
    seed: int = 0,
    valid_fraction: float | None = None,
    test_fraction: float | None = None,
    labels: bool | int = False,
) -> DataSet:
    """A data set of a table: x has a column for each of the table's, NaN where a cell is missing.

    The kind of each column is guessed from its cells, shown by `dataset.schema`, and overruled by `columns`:

    =============  ==================================  ==================================================
    kind           in x                                guessed for
    =============  ==================================  ==================================================
    ``numeric``    (value - mean) / deviation          numbers
    ``log``        its logarithm, standardised         nothing
    ``count``      the number                          other whole numbers from 0 or 1 on
    ``category``   the number of the class             texts, truth values, two values
    ``ordinal``    the number of the level             up to ten whole numbers, ordered categories
    ``label``      nothing: it is y                    a column headed label
    None           nothing                             nothing
    =============  ==================================  ==================================================

    A column of one value alone is constant: it is not in x, and comes back in `schema.inverse`. Mean and
    standard deviation are those of the training part. `likelihoods.Mixed.of(dataset.schema)` and
    `nets.ColumnEncoder.of(dataset.schema, latent_dim=...)` are made for such an x; a run keeps the schema,
    `pv.load_schema(path)`.

    Args:
        frame: a frame of pandas, Polars or Arrow, or a dictionary of columns.
        columns: for some columns a kind, a list of the levels of an ordinal one in their order, or None to
            leave it out.
        standardise: False leaves numbers, and logarithms, as they are.
        missing: texts and numbers that stand for a missing value, besides None, NaN and empty cells.
        name: what the data set is called.
        seed: divides the rows.
        valid_fraction, test_fraction: shares of the rows, as in `load`.
        labels: batches are `(x, y)`, a label that is missing is -1; a number keeps that many, as in `load`.

    Raises:
        DataError: a column whose kind cannot be guessed or that does not have it, naming the column, the row
            and the way out; an unknown column; as `from_tensors`.

    >>> rows = {"height": [1.5, 1.7, None, 1.6] * 5, "size": ["S", "L", "M", "M"] * 5}
    >>> people = table(rows, columns={"size": ["S", "M", "L"]}, name="people")
    >>> people
    DataSet('people', train=14, valid=2, test=4, shape=(2,))
    >>> people.schema
    column  kind     values                    missing
    height  numeric  1.5 to 1.7, standardised  5
    size    ordinal  S < M < L                 0
    """
    division = Division(seed, valid_fraction, test_fraction, labels)
    given = columns_of(frame)
    marks = tuple(missing) if not isinstance(missing, str) else (missing,)
    left_out = _left_out(columns)
    cells = [
        unread(each, len(column.values))
        if each in left_out
        else to_cells(each, column.values, marks, column.order)
        for each, column in given.items()
    ]
    return table_of_cells(name, cells, columns, standardise, marks, division)


def table_of_cells(
    name: str,
    cells: list[Cells],
    columns: Columns | None,
    standardise: bool,
    marks: Iterable[str | float],
    division: Division,
) -> DataSet:
    """The data set of columns that were read: the schema is guessed, the rows are divided, and what is fitted
    is fitted on the training part.
    """
    schema = Schema(_columns(cells, columns), tuple(map(str, marks)))
    if not schema.names:
        raise DataError(f"{name}: no column is left for x:\n{schema}")
    raw = _divided(name, cells, schema, division)
    return _standardised(raw, schema.fitted(_numbers(raw.train)) if standardise else schema, division)


def table_like(name: str, cells: list[Cells], schema: Schema, division: Division | None) -> DataSet:
    """The data set of other rows of a known table, in its units; without a division each part has all rows.

    Raises:
        DataError: a column is lacking, or holds a value that its kind does not have.
    """
    if division is not None:
        return _standardised(_divided(name, cells, schema, division), schema, division)
    part, missing = _part(cells, schema)
    whole = Split(part.rows, part.y, missing=missing)
    return _standardised(DataSet(name, whole, whole, whole), schema, Division())


def _divided(name: str, cells: list[Cells], schema: Schema, division: Division) -> DataSet:
    """The data set with x not yet standardised."""
    part, missing = _part(cells, schema)
    labels = division.labels is not False
    return assemble(name, Loaded(part, missing=missing), replace(division, labels=labels))


def _part(cells: list[Cells], schema: Schema) -> tuple[Part, bool]:
    """All rows, x not yet standardised, and whether any of it is missing."""
    by_name = {each.name: each for each in cells}
    numbers = schema.encode(by_name)
    rows = ResidentRows(torch.from_numpy(numbers))
    return Part(rows, schema.classes(by_name)), bool(np.isnan(numbers).any())


def _standardised(raw: DataSet, schema: Schema, division: Division) -> DataSet:
    """The data set with x as the schema has it."""
    parts: dict[str, Any] = {}
    for part, split in raw.parts().items():
        naming = replace(split.naming, columns=schema.names, schema=schema)
        rows = ResidentRows(schema.standardise(_numbers(split)))
        parts[part] = replace(split, rows=rows, naming=naming)
    return with_few_labels(replace(raw, **parts, schema=schema), division)


def _left_out(columns: Columns | None) -> set[str]:
    """The columns that the user leaves out, which may hold anything."""
    given = columns.items() if isinstance(columns, Mapping) else ()
    return {str(name) for name, choice in given if choice is None}


def _numbers(split: Split) -> np.ndarray:
    return split.rows.read(torch.arange(len(split))).numpy()


def _columns(cells: list[Cells], choices: Columns | None) -> tuple[Column, ...]:
    """The columns, of the chosen kinds where there are any, else as guessed."""
    if choices is not None and not isinstance(choices, Mapping):
        raise DataError(f"columns={choices!r:.80}: give kinds by name, columns={{'type': 'category'}}")
    chosen = {str(name): choice for name, choice in (choices or {}).items()}
    names = [each.name for each in cells]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"two columns are called {twice[0]!r}: rename one of them")
    for name in chosen:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise DataError(f"columns names {name!r}{hint}, and the table has {', '.join(map(repr, names))}")
    columns = tuple(
        column_of(each, chosen[each.name]) if each.name in chosen else guessed(each) for each in cells
    )
    if len([column for column in columns if column.kind == "label"]) > 1:
        raise DataError(
            "two columns are labels: x goes with one y; make the other a category, or leave it out"
        )
    return columns
