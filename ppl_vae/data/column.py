"""One column of a table: what its values mean, and the invertible way from them to numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppl_vae.data.cells import Cells
from ppl_vae.data.data_error import DataError
from ppl_vae.data.decimals import shortest
from ppl_vae.data.one_cell import Value, number_of, plain

NUMBERS = ("numeric", "log", "count")
LEVELLED = ("category", "ordinal")
KINDS = (*NUMBERS, *LEVELLED, "label", "constant", "left out")
LARGEST_COUNT = 2**24  # the whole numbers up to here are exact in float32
_HALF_STEP, _ROUNDING = 2.0**-24, 2.0**-50  # of float32, of some sums in float64


@dataclass(frozen=True)
class Column:
    """A column of a table, and how it becomes a column of x.

    "numeric" and "log" (its logarithm) become ``(value - loc) / scale``, "count" stays as it is, "category"
    and "ordinal" become the number of their level, "label" becomes y, "constant" and "left out" nothing.

    Attributes:
        name: the user's.
        kind: one of these.
        levels: the values of a category, an ordinal column (in order), a label, or a constant.
        loc, scale: of the standardisation; 0 and 1 for none.
        low, high: the least and the greatest number that was seen.
        missing: how many cells are missing.
        marks: the texts that were taken for missing.
    """

    name: str
    kind: str
    levels: tuple[Value, ...] = ()
    loc: float = 0.0
    scale: float = 1.0
    low: float = math.nan
    high: float = math.nan
    missing: int = 0
    marks: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many levels; 1 for a number."""
        return len(self.levels) if self.kind in LEVELLED else 1

    @property
    def in_x(self) -> bool:
        """Whether it is a column of x."""
        return self.kind in NUMBERS + LEVELLED

    def encode(self, cells: Cells) -> NDArray[np.float64]:
        """The cells as float64 numbers, NaN where missing; not yet standardised.

        Raises:
            DataError: a value that the kind does not have; names the row.
        """
        if self.kind in (*LEVELLED, "label"):
            return self._places(cells)
        numbers = np.full(len(cells.values), math.nan)
        if cells.is_numeric:
            numbers[:] = cells.values
        else:
            for row in np.flatnonzero(~cells.missing).tolist():  # texts that may be numbers, such as 007
                value = number_of(str(cells.values[row]))
                if value is None:
                    row = row if cells.odd is None else cells.odd
                    raise self._fault(cells, row, f"is no number, and the column is {self.kind}", text=True)
                numbers[row] = value
        if self.kind == "count":
            self._refuse(cells, (numbers < 0) | (numbers != np.floor(numbers)), "is no count 0, 1, 2, ...")
            self._refuse(cells, numbers > LARGEST_COUNT, "is too large for a count in float32")
        if self.kind == "log":
            self._refuse(cells, numbers <= 0, "has no logarithm")
            return np.log(numbers)
        return numbers

    def _places(self, cells: Cells) -> NDArray[np.float64]:
        """The numbers of the cells' levels."""
        places: dict[Value, float] = {level: float(place) for place, level in enumerate(self.levels)}
        if any(isinstance(level, str | bool) for level in self.levels):
            # a text that spells a number may have come as one, and a truth value as a text
            places |= {str(level): place for level, place in places.items() if str(level) not in places}
        seen = np.unique(cells.seen) if cells.is_numeric else set(cells.seen.tolist())
        known = {value: places.get(plain(value), places.get(str(plain(value)))) for value in seen}
        known[None] = math.nan
        numbers = [known[None if gone else value] for value, gone in zip(cells.values, cells.missing)]
        if None in numbers:
            few = ", ".join(map(str, self.levels[:8])) + (", ..." if len(self.levels) > 8 else "")
            raise self._fault(cells, numbers.index(None), f"is none of its levels {few}")
        return np.array(numbers, dtype=np.float64)

    def _refuse(self, cells: Cells, wrong: NDArray[np.bool_], why: str) -> None:
        wrong = wrong & ~cells.missing
        if wrong.any():
            raise self._fault(cells, int(wrong.argmax()), f"{why}; make it numeric")

    def _fault(self, cells: Cells, row: int, why: str, text: bool = False) -> DataError:
        value = plain(cells.values[row])
        mark = f", or say that it is missing, missing=[{value!r}, ...]" if text else ""
        return DataError(
            f"column {self.name!r}: {cells.where(row)} holds {value!r}, which {why}: mend it{mark}, or give "
            f"the column another kind, columns={{{self.name!r}: ...}}"
        )

    def fitted(self, numbers: NDArray[np.float64]) -> Column:
        """The column standardised by the mean and the standard deviation of `numbers`, NaN left out."""
        seen = numbers[~np.isnan(numbers)]
        if self.kind not in ("numeric", "log") or not len(seen):
            return self
        with np.errstate(over="ignore", invalid="ignore"):
            middle = float(seen.mean())
            largest = float(np.abs(seen - middle).max())
        if not math.isfinite(largest):
            raise DataError(
                f"column {self.name!r} holds numbers up to {self.high:.3g}: give it in other units"
            )
        # what does not vary here is centred alone; a spread that is rounding is none
        if not largest > 1e-12 * abs(middle):
            return replace(self, loc=middle)
        # in units of the largest, whose square cannot be too large or too small
        spread = largest * float(np.sqrt(np.square((seen - middle) / largest).mean()))
        return replace(self, loc=middle, scale=spread)

    def forward(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """A column of x from encoded numbers."""
        return (numbers - self.loc) / self.scale

    def inverse(self, x: NDArray[np.float64]) -> Any:
        """The values, in the user's units, of a column of x; a level is that of the nearest number."""
        import pandas as pd  # type: ignore[import-untyped]  # not at the top: it is slow to import

        if self.kind in ("numeric", "log"):
            numbers = x * self.scale + self.loc
            return np.exp(numbers) if self.kind == "log" else numbers
        if self.kind == "count":
            gaps = np.isnan(x)
            if not (gaps | (x == np.round(x))).all():
                return x  # means
            return pd.array(x, dtype="Int64") if gaps.any() else x.astype(np.int64)
        places = np.where(np.isnan(x), -1, np.clip(np.round(x), 0, len(self.levels) - 1)).astype(np.int64)
        return self.of_levels(places)

    def in_float32(self, x: NDArray[np.float64]) -> Any:
        """`inverse` of a column of x that float32 has rounded: the numbers that were in the table."""
        values = self.inverse(x)
        if self.kind not in ("numeric", "log"):
            return values
        with np.errstate(over="ignore", invalid="ignore"):
            size = np.abs(values) if self.kind == "numeric" else np.abs(np.log(values))
            within = _HALF_STEP * np.abs(x) * self.scale + _ROUNDING * (size + abs(self.loc))
            return shortest(values, within if self.kind == "numeric" else within * values)

    def in_units(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers in the user's units; of classes and levels, their numbers."""
        return np.asarray(self.inverse(x), dtype=np.float64) if self.kind in ("numeric", "log") else x

    def of_levels(self, places: NDArray[np.int64]) -> Any:
        """Levels by their numbers; -1 is missing."""
        import pandas as pd

        numeric = all(isinstance(level, int | float) and not isinstance(level, bool) for level in self.levels)
        if numeric and (places >= 0).all():
            return np.array(self.levels)[places]
        return pd.Categorical.from_codes(places, list(self.levels), ordered=self.kind == "ordinal")

    def shown(self) -> str:
        """The values, in a few words."""
        if self.levels:
            joint = " < " if self.kind == "ordinal" else ", "
            few = [str(level) for level in self.levels[:6]]
            return joint.join(few) + (f"{joint}... ({len(self.levels)})" if len(self.levels) > 6 else "")
        if math.isnan(self.low):
            return ""
        standardised = ", standardised" if (self.loc, self.scale) != (0.0, 1.0) else ""
        return f"{self.low:.6g} to {self.high:.6g}{standardised}"

    def plain(self) -> dict[str, Any]:
        """Plain values, from which `from_plain` makes the column again."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value != type(self).__dataclass_fields__[name].default and value == value
        }

    @classmethod
    def from_plain(cls, given: Mapping[str, Any]) -> Column:
        """The column of `plain`.

        Raises:
            DataError: for what `plain` never writes.
        """
        scalars = (str, int, float, bool)
        try:
            values: dict[str, Any] = {
                name: tuple(each) if isinstance(each, list) else each for name, each in given.items()
            }
            column = cls(**values)
            numbers = [float(getattr(column, name)) for name in ("loc", "scale", "low", "high", "missing")]
            fits = (
                isinstance(column.name, str)
                and column.kind in KINDS
                and all(isinstance(level, scalars) for level in (*column.levels, *column.marks))
                and math.isfinite(numbers[0])
                and 0 < numbers[1] < math.inf
                and (column.kind not in LEVELLED or len(column.levels) > 1)
            )
        except (TypeError, ValueError, AttributeError):
            fits = False
        if not fits:
            raise DataError(f"{given!r:.120} is no column of a table's schema")
        return column
