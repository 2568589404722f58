"""Tables in text files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ppl_vae.data.cells import Cells, to_cells
from ppl_vae.data.data_error import DataError
from ppl_vae.data.dataset import DataSet
from ppl_vae.data.division import Division
from ppl_vae.data.one_cell import MARKS
from ppl_vae.data.schema import Schema
from ppl_vae.data.tables import Columns, table_like, table_of_cells
from ppl_vae.data.text_form import Form, form_of, numbered, opened, unequal


def table_of_file(
    path: Path,
    columns: Columns | None,
    standardise: bool,
    marks: Iterable[str | float],
    division: Division,
) -> DataSet:
    """The data set of a table in a text file."""
    given = (marks,) if isinstance(marks, str) else tuple(marks)
    with _naming(path):
        cells = read_cells(path, form_of(path), given)
        return table_of_cells(path.stem, cells, columns, standardise, given, division)


def rows_of_file(path: Path, schema: Schema, division: Division | None) -> DataSet:
    """The data set of a text file with other rows of a known table; as `table_like`."""
    with _naming(path):
        return table_like(path.stem, read_cells(path, form_of(path), schema.marks), schema, division)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors begin with the file's name."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def read_cells(path: Path, form: Form, marks: Iterable[str | float] = MARKS) -> list[Cells]:
    """The columns of a text file; without a header they are called 0, 1, 2, ...

    Raises:
        DataError: lines of unequal length, no rows; as `to_cells`.
    """
    names: list[str] = []
    rows: list[list[str]] = []
    numbers: list[int] = []
    with opened(path) as file:
        for line, cells in numbered(file, form.separator):
            if form.header and not names:
                names = [cell.strip() or f"column {place + 1}" for place, cell in enumerate(cells)]
                continue
            rows.append(cells)
            numbers.append(line)
    if not rows:
        raise DataError(f"{path} holds a header and no rows; give at least one row")
    if any(len(cells) != len(names or rows[0]) for cells in rows):
        raise unequal(path, form.separator)
    names = names or [str(place) for place in range(len(rows[0]))]

    def where(row: int) -> str:
        return f"line {numbers[row]}"

    columns = zip(*rows)
    return [to_cells(name, column, marks, where=where) for name, column in zip(names, columns)]
