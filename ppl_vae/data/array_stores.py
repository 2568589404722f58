"""HDF5 and Zarr: arrays by name in one file, read in blocks."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppl_vae.data.blocks import BLOCK, Events, block_tensor
from ppl_vae.data.open_stores import close, open_store


@dataclass(eq=False)
class ArrayStore:
    """The arrays of one `.h5` or `.zarr` file with the same number of rows, as a `BlockReader`.

    Args:
        path: the file.
        keys: the arrays' names in the file, by the names that they have here.
    """

    path: Path
    keys: Mapping[str, str]
    events: Events = field(init=False, repr=False)
    _root: Any = field(init=False, repr=False)
    _arrays: dict[str, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._root = open_store(self.path)
        self._arrays = {name: self._root[key] if key else self._root for name, key in self.keys.items()}
        self.events = {name: self._event(name) for name in self.keys}

    def __reduce__(self) -> tuple[type[ArrayStore], tuple[Path, Mapping[str, str]]]:
        return ArrayStore, (self.path, dict(self.keys))

    @functools.cached_property
    def bounds(self) -> NDArray[np.int64]:
        """Blocks of about `BLOCK` bytes, in whole chunks of the largest array."""
        sizes = {
            name: int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize
            for name, array in self._arrays.items()
        }
        largest = self._arrays[max(sizes, key=lambda name: sizes[name])]
        chunk = largest.chunks[0] if largest.chunks else 1
        rows = max(1, BLOCK // max(1, sum(sizes.values())))
        rows = max(1, rows // chunk) * chunk
        count = largest.shape[0]
        return np.append(np.arange(0, count, rows), count)

    def block(self, number: int, name: str) -> Tensor:
        rows = slice(int(self.bounds[number]), int(self.bounds[number + 1]))
        return self._tensor(name, np.asarray(self._arrays[name][rows]))

    def whole(self, name: str) -> Tensor:
        return self._tensor(name, np.asarray(self._arrays[name][:]))

    def close(self) -> None:
        close(self._root)

    def _event(self, name: str) -> tuple[tuple[int, ...], torch.dtype]:
        array = self._arrays[name]
        few = np.zeros((1, *array.shape[1:]), array.dtype)
        tensor = self._tensor(name, few)
        return tuple(tensor.shape[1:]), tensor.dtype

    def _tensor(self, name: str, rows: np.ndarray) -> Tensor:
        return block_tensor(rows, name, f"{self.path}: {name}")
