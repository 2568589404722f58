"""Files that are read in blocks, runs of rows that lie together, and their order in a shuffled pass."""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppl_vae.data.array_checks import check_finite, check_unit_interval, to_float32
from ppl_vae.data.array_shapes import as_events
from ppl_vae.data.data_error import DataError
from ppl_vae.data.naming import given_tensor

BLOCK = 2 * 2**20
"""Bytes of a block, where the file leaves the choice."""
LARGEST = 2**31
"""Bytes of a block that is too large to be read at once."""
BUFFER = 64 * 2**20
"""Bytes of the blocks whose rows are shuffled together."""


Events = dict[str, tuple[tuple[int, ...], torch.dtype]]


class BlockReader(Protocol):
    """How one file is read; pickled, it opens the file anew.

    Attributes:
        path: the file.
        events: of each array, the event shape and the type of what `block` gives.
    """

    path: Path
    events: Events

    @property
    def bounds(self) -> NDArray[np.int64]:
        """The first row of each block, and the number of rows."""

    def block(self, number: int, name: str) -> Tensor:
        """The rows of one array in one block; not checked."""

    def whole(self, name: str) -> Tensor:
        """All rows of one array, for one that is small."""

    def close(self) -> None:
        """Let go of the file."""


def needed(module: str, path: Path) -> Any:
    """A package that is only needed to read some files.

    Raises:
        ImportError: it is not installed; says which extra it belongs to.
    """
    extra = {"pyarrow.parquet": "parquet"}.get(module, module)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{path} needs {package}: pip install 'ppl_vae[{extra}]'") from error


def block_tensor(rows: np.ndarray, name: str, what: str) -> Tensor:
    """Rows as a file holds them, as they are kept under a name; not yet checked for NaN.

    Raises:
        DataError: values that are no numbers, or of a shape that no data has.
    """
    if name != "x":
        return given_tensor(rows, what)
    if rows.dtype.kind not in "buif":
        raise DataError(f"{what}: values of type {rows.dtype} are not numbers; convert them first")
    rows = rows if rows.ndim == 1 else as_events(rows, what)
    one_byte = rows.dtype in (np.bool_, np.uint8)
    rows = np.ascontiguousarray(rows.view(np.uint8) if one_byte else to_float32(rows))
    return torch.from_numpy(rows if rows.flags.writeable else rows.copy())


class BlockFile:
    """A file whose blocks are kept for a while after they are read, checked.

    Args:
        reader: of the file.
    """

    def __init__(self, reader: BlockReader) -> None:
        self.reader = reader
        self.bounds = reader.bounds
        largest = int(np.diff(self.bounds).max()) * self.row_bytes
        if largest > LARGEST:
            raise DataError(
                f"{reader.path} has a block of {largest:,} bytes, which is read at once: write it with "
                f"smaller ones, row_group_size=10_000 for Parquet or chunks=(1000, ...) for HDF5 and Zarr"
            )
        self.in_buffer = max(2, BUFFER // max(1, largest))
        self._kept: dict[str, OrderedDict[int, Tensor]] = {name: OrderedDict() for name in reader.events}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[BlockFile], tuple[BlockReader]]:
        return BlockFile, (self.reader,)

    def __len__(self) -> int:
        return int(self.bounds[-1])

    @property
    def rows_in_buffer(self) -> int:
        """The most rows that are shuffled together."""
        return self.in_buffer * int(np.diff(self.bounds).max())

    @property
    def row_bytes(self) -> int:
        """Of all arrays together."""
        kinds = self.reader.events.values()
        return sum(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in kinds)

    def column(self, name: str) -> BlockColumn:
        """One array of the file, as a source of rows."""
        return BlockColumn(self, name)

    def block(self, number: int, name: str) -> Tensor:
        """An array's rows in one block, from memory if they have just been read.

        Raises:
            DataError: a value that is not finite, or a block that cannot be read.
        """
        with self._lock:
            kept = self._kept[name]
            if number in kept:
                kept.move_to_end(number)
            else:
                kept[number] = self._read(number, name)
                while len(kept) > 2 * self.in_buffer:  # a batch may lie in two buffers
                    kept.popitem(last=False)
            return kept[number]

    def _read(self, number: int, name: str) -> Tensor:
        try:
            found = self.reader.block(number, name)
        except DataError:
            raise
        except Exception as error:  # each library has its own
            raise DataError(
                f"{self.reader.path}: rows {self.bounds[number]} to {self.bounds[number + 1]} cannot be read "
                f"({error}); it may be damaged: write it anew"
            ) from error
        if found.is_floating_point() and not torch.stack(found.aminmax()).isfinite().all():  # in one pass
            check_finite(found, f"{self.reader.path}: {name}", first_row=int(self.bounds[number]))
        return found


@dataclass(frozen=True, eq=False)
class BlockColumn:
    """One array of a file that is read in blocks.

    Args:
        file: with the array.
        name: of the array.
        unit_interval: raise on values outside [0, 1] (asked for where they are binarised).
    """

    file: BlockFile
    name: str
    unit_interval: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.file.reader.events[self.name][0]

    @property
    def dtype(self) -> torch.dtype:
        return self.file.reader.events[self.name][1]

    def __len__(self) -> int:
        return len(self.file)

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """The rows at `positions`; each block that they lie in is read once.

        Raises:
            DataError: a row that cannot be read, or used.
        """
        bounds = self.file.bounds
        blocks = np.searchsorted(bounds, positions, side="right") - 1
        if (np.diff(blocks) < 0).any():  # block after block, and then back
            together = np.argsort(blocks, kind="stable")
            back = torch.from_numpy(np.argsort(together))
            return self.read(positions[together]).index_select(0, back)
        within = torch.from_numpy(positions - bounds[blocks])
        numbers, firsts = np.unique(blocks, return_index=True)
        rows = torch.empty((len(positions), *self.shape), dtype=self.dtype)
        lasts = [*firsts[1:].tolist(), len(positions)]
        for number, first, last in zip(numbers.tolist(), firsts.tolist(), lasts):
            block = self.file.block(number, self.name)
            torch.index_select(block, 0, within[first:last], out=rows[first:last])
        if self.unit_interval:
            check_unit_interval(rows, f"{self.file.reader.path}: {self.name}")
        return rows

    def in_unit_interval(self) -> BlockColumn:
        """The same, for values that are binarised."""
        return replace(self, unit_interval=True)


def shuffled_by_blocks(
    source: BlockColumn, positions: NDArray[np.int64], generator: torch.Generator
) -> Tensor:
    r"""The order of a shuffled pass over rows at `positions` of a file, LongTensor `(N,)`, places among them.

    The blocks come in random order, `in_buffer` of them make a buffer, and the rows of a buffer come in
    random order, those of one batch as the file has them. So every row comes once, and each set of rows of a
    buffer is as likely as another to be a batch; but two rows of one block are never further apart than the
    rows of a buffer, and the rows of a batch come from as many blocks as a buffer has, or two buffers have.
    Where a file is sorted, class after class, write it shuffled.
    """
    blocks = np.searchsorted(source.file.bounds, positions, side="right") - 1
    ranks = torch.randperm(len(source.file.bounds) - 1, generator=generator, device=generator.device)
    # of the blocks that have rows here, in their random order
    _, places = np.unique(ranks.cpu().numpy()[blocks], return_inverse=True)
    buffers = torch.from_numpy(places) // source.file.in_buffer
    noise = torch.rand(len(positions), generator=generator, device=generator.device, dtype=torch.float64)
    return torch.argsort(buffers + noise.cpu())
