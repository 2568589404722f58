"""Where the rows of a split lie: on a device, or in a source that is read batch by batch.

Both kinds answer the same four questions: how many, of what shape, read these, select those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHARE_OF_FREE_MEMORY = 0.5  # a data set that takes more of a GPU than this would crowd out training


class Source(Protocol):
    """Rows that are read on demand, by their position in the source: a memory map, a folder."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The event shape."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of what `read` gives."""

    def __len__(self) -> int: ...

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """The rows at `positions`, `(B, *event)`, in host memory; never a view of the source."""


@dataclass(frozen=True, eq=False)
class ResidentRows:
    """Rows in one tensor `(N, *event)`, which lies on the device where batches are wanted."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def __len__(self) -> int:
        return len(self.tensor)

    def read(self, index: Tensor) -> Tensor:
        """The rows at `index`, a copy."""
        # index_select copies whole rows: several times faster on a CPU than tensor[index]
        return self.tensor.index_select(0, index.to(self.tensor.device))

    def select(self, index: Tensor) -> ResidentRows:
        """Only the rows at `index`."""
        return ResidentRows(self.read(index.to(self.device)))

    def to(self, device: torch.device) -> ResidentRows | StreamedRows:
        """On `device`; where the rows do not fit there, streamed to it from host memory."""
        size = self.tensor.numel() * self.tensor.element_size()
        if device == self.device or size <= SHARE_OF_FREE_MEMORY * free_memory(device):
            return ResidentRows(self.tensor.to(device))
        return StreamedRows(HostTensor(self.tensor.cpu()), np.arange(len(self)), device)


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """Rows at `positions` of a source; a batch is read on the host and then moved to `device`."""

    source: Source
    positions: NDArray[np.int64]
    device: torch.device

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.source.dtype

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, index: Tensor) -> Tensor:
        """The rows at `index`, in host memory; pinned where they go on to a CUDA device."""
        rows = self.source.read(self.positions[index.cpu().numpy()])
        return rows.pin_memory() if self.device.type == "cuda" else rows

    def select(self, index: Tensor) -> StreamedRows:
        """Only the rows at `index`."""
        return replace(self, positions=self.positions[index.cpu().numpy()])

    def to(self, device: torch.device) -> StreamedRows:
        """The same rows with batches that end on `device`."""
        return replace(self, device=device)


Rows = ResidentRows | StreamedRows


@dataclass(frozen=True, eq=False)
class HostTensor:
    """A source in host memory: a data set that does not fit on the device."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    def __len__(self) -> int:
        return len(self.tensor)

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """The rows at `positions`."""
        return self.tensor.index_select(0, torch.from_numpy(positions))


def stream(source: Source) -> StreamedRows:
    """All rows of `source`, with batches in host memory."""
    return StreamedRows(source, np.arange(len(source)), torch.device("cpu"))


def free_memory(device: torch.device) -> float:
    """Free bytes of `device`; infinite where torch cannot tell, since there the system decides."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
