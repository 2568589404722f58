"""The schema of a table: what its columns are, and the way from a frame to x and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppl_vae.data.cells import Cells, to_cells
from ppl_vae.data.column import Column
from ppl_vae.data.columns_of import columns_of
from ppl_vae.data.data_error import DataError
from ppl_vae.data.one_cell import MARKS

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

MISSING = -1
"""The label of a datum whose label is missing."""


@dataclass(frozen=True, repr=False)
class Schema:
    """What the columns of a table are. It prints as a table, and iterating gives the columns of x.

    Args:
        columns: all of the table's, in their order.
        marks: the texts that stand for a missing value.

    >>> from ppl_vae import data
    >>> wine = data.table({"alcohol": [9.4, 12.1, None, 10.0], "type": ["red", "white", "red", "?"]},
    ...                   valid_fraction=0, test_fraction=0.25)
    >>> wine.schema
    column   kind      values                     missing
    alcohol  numeric   9.4 to 12.1, standardised  1
    type     category  red, white                 1 as '?'
    >>> wine.schema.inverse(torch.tensor([[0.0, 1.0]]))["type"].tolist()
    ['white']
    """

    columns: tuple[Column, ...]
    marks: tuple[str, ...] = MARKS

    def __iter__(self) -> Iterator[Column]:
        """The columns of x, in their order."""
        return (column for column in self.columns if column.in_x)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of x."""
        return tuple(column.name for column in self)

    @property
    def label(self) -> Column | None:
        """The column that holds the labels, y; None without one."""
        return next((column for column in self.columns if column.kind == "label"), None)

    def encode(self, cells: Mapping[str, Cells]) -> NDArray[np.float64]:
        """The columns of x as numbers, NaN where missing; not yet standardised.

        Raises:
            DataError: a column is lacking, or holds a value that its kind does not have.
        """
        _require(self.names, cells)
        return np.stack([column.encode(cells[column.name]) for column in self], 1)

    def classes(self, cells: Mapping[str, Cells]) -> Tensor | None:
        """The numbers of the labels, `MISSING` where one is; None where the cells have no column of them."""
        if self.label is None or self.label.name not in cells:
            return None
        places = self.label.encode(cells[self.label.name])
        return torch.from_numpy(np.nan_to_num(places, nan=MISSING).astype(np.int64))

    def fitted(self, numbers: NDArray[np.float64]) -> Schema:
        """The schema whose numeric columns are standardised by these rows of `encode`."""
        new = {column.name: column.fitted(numbers[:, place]) for place, column in enumerate(self)}
        return replace(self, columns=tuple(new.get(column.name, column) for column in self.columns))

    def forward(self, frame: Any) -> Tensor:
        """The x of a frame or a dictionary of columns, `(N, D)` float32: other rows of the same table.

        NaN stands for what is missing; columns that are not in x may be lacking.

        Raises:
            DataError: a column is lacking, or holds a value that its kind does not have.
        """
        return self.standardise(self.encode(self.cells(frame, self.names)))

    def cells(self, frame: Any, names: Sequence[str]) -> dict[str, Cells]:
        """Some columns of a frame, with this table's marks of what is missing.

        Raises:
            DataError: a column is lacking.
        """
        given = columns_of(frame)
        _require(names, given)
        return {name: to_cells(name, given[name].values, self.marks) for name in names}

    def standardise(self, numbers: NDArray[np.float64]) -> Tensor:
        """x of rows of `encode`."""
        columns = [column.forward(numbers[:, place]) for place, column in enumerate(self)]
        with np.errstate(over="ignore"):
            x = np.stack(columns, 1).astype(np.float32)
        if np.isinf(x).any():
            name = self.names[int(np.isinf(x).any(0).argmax())]
            raise DataError(f"column {name!r} holds numbers too large for float32: standardise them")
        return torch.from_numpy(x)

    def inverse(self, x: Tensor | NDArray[Any]) -> pd.DataFrame:
        """Rows of x as a frame in the user's units, under the user's names.

        A number of float32 is the one with the fewest decimals that it stands for: 168.7, not 168.70000038.

        Means of counts stay fractional; a category is the nearest of its classes. Constant columns are there
        too, labels and columns that were left out are not.

        Args:
            x: data, samples or means, `(..., D)`; further dims to the left become the frame's index.

        Raises:
            DataError: for another number of columns.
        """
        import pandas as pd  # not at the top: it is slow to import

        rounded = x.dtype in (torch.float32, np.float32)
        array = (
            x.detach().cpu().double().numpy() if isinstance(x, Tensor) else np.asarray(x, dtype=np.float64)
        )
        size = len(self.names)
        if array.ndim < 1 or array.shape[-1] != size:
            raise DataError(f"x has shape {array.shape}, and the table's x has {size} columns, (..., {size})")
        rows, lead = array.reshape(-1, size), array.shape[:-1]
        place, found = 0, {}
        for column in self.columns:
            if column.in_x:
                found[column.name] = (column.in_float32 if rounded else column.inverse)(rows[:, place])
                place += 1
            elif column.kind == "constant":
                found[column.name] = [column.levels[0]] * len(rows)
        index = pd.MultiIndex.from_product([range(size) for size in lead]) if len(lead) > 1 else None
        return pd.DataFrame(found, index=index)

    def __repr__(self) -> str:
        rows = [("column", "kind", "values", "missing")]
        for column in self.columns:
            missing = f"{column.missing}" + (
                f" as {', '.join(map(repr, column.marks))}" if column.marks else ""
            )
            rows.append((" ".join(column.name.split()), column.kind, column.shown(), missing))
        widths = [max(len(row[place]) for row in rows) for place in range(3)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]) for row in rows
        ]
        return "\n".join(line.rstrip() for line in lines)

    def plain(self) -> dict[str, Any]:
        """The schema as plain values, as a run's configuration keeps it."""
        return {"marks": list(self.marks), "columns": [column.plain() for column in self.columns]}

    @classmethod
    def from_plain(cls, given: Any) -> Schema:
        """The schema of `plain`.

        Raises:
            DataError: for what `plain` never writes.
        """
        if not isinstance(given, Mapping) or not isinstance(given.get("columns"), Sequence):
            raise DataError(f"{given!r:.120} is no schema of a table")
        columns = tuple(Column.from_plain(each) for each in given["columns"])
        return cls(columns, tuple(map(str, given.get("marks") or ())))


def _require(names: Sequence[str], given: Mapping[str, Any]) -> None:
    if lacking := [name for name in names if name not in given]:
        raise DataError(f"the table has no column {lacking[0]!r}: it has {list(given)}")
