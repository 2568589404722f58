"""A `.npy` file larger than memory, as a source of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppl_vae.data.array_checks import check_finite, check_unit_interval, to_float32
from ppl_vae.data.array_shapes import as_events
from ppl_vae.data.data_error import DataError


class MemoryMap:
    """Rows of a `.npy` file, read as they are asked for.

    Reading all of it to look for a NaN would cost a pass over the disk, so floats are checked batch by
    batch: the first bad row that is read raises.

    Args:
        path: the file.
        unit_interval: also raise on values outside [0, 1] (asked for where they are binarised).
    """

    def __init__(self, path: Path, unit_interval: bool = False) -> None:
        self.path = path
        self.unit_interval = unit_interval
        self.array = as_events(open_npy(path), str(path))
        self.shape = tuple(self.array.shape[1:])
        self.dtype = torch.uint8 if self.array.dtype in (np.bool_, np.uint8) else torch.float32

    def __reduce__(self) -> tuple[type[MemoryMap], tuple[Path, bool]]:
        # A pickled map would carry the whole file to each worker process.
        return MemoryMap, (self.path, self.unit_interval)

    def __len__(self) -> int:
        return len(self.array)

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """The rows at `positions`, `(B, *event)`.

        Raises:
            DataError: a row holds a NaN, an infinity, or a value that cannot be binarised.
        """
        rows = np.ascontiguousarray(self.array[positions])
        if self.dtype == torch.uint8:
            return torch.from_numpy(rows.view(np.uint8))
        tensor = torch.from_numpy(to_float32(rows))
        good = torch.isfinite(tensor)
        if self.unit_interval:
            good &= (tensor >= 0) & (tensor <= 1)
        if not good.all():
            bad = int(torch.argmin(good.flatten(1).all(1).to(torch.uint8)))
            row, position = tensor[bad : bad + 1], int(positions[bad])
            check_finite(row, str(self.path), first_row=position)
            check_unit_interval(row, str(self.path), first_row=position)
        return tensor


def open_npy(path: Path) -> NDArray[np.generic]:
    """The array of a `.npy` file, not read yet.

    Raises:
        DataError: the file is truncated, foreign, or does not hold numbers.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header may be anything: SyntaxError, OverflowError, MemoryError
        raise DataError(f"{path} cannot be read as .npy ({error}); write it anew with numpy.save") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path} is an .npz archive; rename it to end with .npz")
    if array.dtype.kind not in "buif":
        raise DataError(f"{path}: values of type {array.dtype} are not numbers; convert them first")
    return array
