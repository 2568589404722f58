"""Parquet: a table in row groups, each of which is read as one block."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ppl_vae.data.blocks import Events, block_tensor
from ppl_vae.data.data_error import DataError
from ppl_vae.data.parquet_columns import AS_TABLE, open_parquet


@dataclass(eq=False)
class ParquetTable:
    """A `.parquet` file as a `BlockReader`.

    Args:
        path: the file.
        columns: of each array, by its name; several columns of numbers are one row.
    """

    path: Path
    columns: Mapping[str, tuple[str, ...]]
    events: Events = field(init=False, default_factory=dict, repr=False)
    _file: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._file = open_parquet(self.path)
        if not self._file.metadata.num_rows:
            raise DataError(f"{self.path} has no rows; give at least one")
        for name in self.columns:  # the lengths of lists are said nowhere else
            first = self.block(0, name)
            self.events[name] = tuple(first.shape[1:]), first.dtype

    def __reduce__(self) -> tuple[type[ParquetTable], tuple[Path, Mapping[str, tuple[str, ...]]]]:
        return ParquetTable, (self.path, dict(self.columns))

    @functools.cached_property
    def bounds(self) -> NDArray[np.int64]:
        """The row groups as they were written."""
        metadata = self._file.metadata
        sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        return np.cumsum([0, *[size for size in sizes if size]], dtype=np.int64)

    @functools.cached_property
    def _groups(self) -> list[int]:
        metadata = self._file.metadata
        return [n for n in range(metadata.num_row_groups) if metadata.row_group(n).num_rows]

    def block(self, number: int, name: str) -> Tensor:
        columns = list(self.columns[name])
        return self._tensor(self._file.read_row_group(self._groups[number], columns=columns), name)

    def whole(self, name: str) -> Tensor:
        return self._tensor(self._file.read(columns=list(self.columns[name])), name)

    def close(self) -> None:
        self._file.close()

    def _tensor(self, table: Any, name: str) -> Tensor:
        arrays = [self._array(table[column].combine_chunks(), column) for column in self.columns[name]]
        stacked = name == "x" and arrays[0].ndim == 1
        # the bytes of a column are numbers and no pixels
        array = np.stack(arrays, 1).astype(np.float64) if stacked else arrays[0]
        found = block_tensor(array, name, f"{self.path}: {name}")
        known = self.events.get(name, (None,))[0]
        if known not in (None, shape := tuple(found.shape[1:])):
            raise DataError(f"{self.path}: {name} has rows of shapes {known} and {shape}: pad them")
        return found

    def _array(self, column: Any, name: str) -> np.ndarray:
        shape = [len(column)]
        while hasattr(column, "flatten") and hasattr(column.type, "value_type"):
            self._refuse_null(column, name)
            lengths = np.unique(column.value_lengths().to_numpy()) if len(column) else np.zeros(1, int)
            if len(lengths) > 1:
                raise DataError(
                    f"{self.path}: column {name!r} holds lists of {lengths[0]} to {lengths[-1]} values: pad "
                    f"them to one length, and write the lengths as a column of their own"
                )
            shape.append(int(lengths[0]))
            column = column.flatten()
        self._refuse_null(column, name)
        return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)

    def _refuse_null(self, column: Any, name: str) -> None:
        if column.null_count:
            raise DataError(f"{self.path}: column {name!r} lacks {column.null_count} values: {AS_TABLE}")
