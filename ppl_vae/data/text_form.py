"""The form of a text file: what separates its cells, and whether the first line is a header."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO

from ppl_vae.data.data_error import DataError
from ppl_vae.data.one_cell import MARKS, number_of

SEPARATORS = (",", ";", "\t", "|", " ")
LOOKED_AT = 30  # rows by which separator and header are found


class Form(NamedTuple):
    """How a text file is written.

    Attributes:
        separator: of its cells; a space stands for any number of blanks.
        header: whether the first line holds the names of the columns.
    """

    separator: str
    header: bool


def form_of(path: Path) -> Form:
    """The separator that divides the first lines into equally many cells, and whether there is a header.

    The first line is a header when none of its cells is a number, or where it has a text above numbers.

    Raises:
        DataError: bytes that are no text, or lines of unequal length.
    """
    with opened(path) as file:
        for separator in SEPARATORS:
            rows = _first_rows(file, separator)
            if rows and len({len(cells) for cells in rows}) == 1 and (len(rows[0]) > 1):
                return Form(separator, _has_header(rows))
        rows = _first_rows(file, ",")
    if len({len(cells) for cells in rows}) > 1:
        raise unequal(path, ",")
    return Form(",", _has_header(rows))


def opened(path: Path) -> TextIO:
    """A file of text.

    Raises:
        DataError: for bytes that are none.
    """
    try:
        with path.open("rb") as start:
            if b"\0" in start.read(4096):  # a line without end, perhaps
                raise DataError(
                    f"{path} cannot be read as text (it has bytes that are zero); save it as UTF-8"
                )
        with path.open(newline="", encoding="utf-8-sig") as whole:
            for _ in iter(lambda: whole.read(2**20), ""):
                pass
        return path.open(newline="", encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read as text ({error}); save it as UTF-8") from error


def _first_rows(file: TextIO, separator: str) -> list[list[str]]:
    # rows and not lines: a text in quotes may go over several
    file.seek(0)
    return [cells for _, cells in islice(numbered(file, separator), LOOKED_AT)]


def numbered(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that is not empty, and its number."""
    if separator == " ":
        yield from ((number, line.split()) for number, line in enumerate(lines, 1) if line.strip())
        return
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} cannot be read ({error}); mend it") from error


def _has_header(rows: list[list[str]]) -> bool:
    if not rows:
        return False
    first, rest = rows[0], rows[1:]
    numbers = [number_of(cell) is not None for cell in first]
    if not any(numbers):
        return bool(first)
    below = [[row[place] for row in rest if place < len(row)] for place in range(len(first))]
    return any(
        not numbers[place] and first[place].strip() not in ("", *MARKS) and _are_numbers(cells)
        for place, cells in enumerate(below)
    )


def _are_numbers(cells: list[str]) -> bool:
    filled = [cell for cell in cells if cell.strip() not in ("", *MARKS)]
    return len(filled) > 1 and all(number_of(cell) is not None for cell in filled)


def unequal(path: Path, separator: str) -> DataError:
    """The error that names the first line of another length."""
    with opened(path) as file:
        width = 0
        for line, cells in numbered(file, separator):
            width = width or len(cells)
            if len(cells) != width:
                return DataError(f"{path}: line {line} has {len(cells)} cells, not {width}; mend it")
    return DataError(f"{path}: rows of unequal length; mend them")
