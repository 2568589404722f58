"""Fixed binarisation: each value x in [0, 1] becomes 1 with probability x, once, by a seed.

(Dynamic binarisation, which draws afresh at every batch, is one line of `Split.batch`.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppl_vae.data.array_checks import rows_per_chunk
from ppl_vae.data.rows import ResidentRows, Rows, Source, StreamedRows


def generator(seed: int, stream: int) -> torch.Generator:
    """A CPU generator of its own for each purpose, so that one draw never shifts another."""
    state = _sequence(seed, stream).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def numpy_generator(seed: int, stream: int) -> np.random.Generator:
    """The same of numpy's, for distributions that torch cannot draw from a generator."""
    return np.random.default_rng(_sequence(seed, stream))


def fix(rows: Rows, divisor: float, seed: int, stream: int) -> Rows:
    """`rows` / `divisor` binarised once: uint8 in {0, 1}, the same on every device."""
    if isinstance(rows, StreamedRows):
        source = BinarisedSource(rows.source, divisor, seed, stream)
        return StreamedRows(source, rows.positions, rows.device)
    noise = generator(seed, stream)
    bits = torch.empty_like(rows.tensor, dtype=torch.uint8)
    size = rows_per_chunk(rows.shape)
    for chunk, out in zip(rows.tensor.split(size), bits.split(size)):
        uniform = torch.rand(chunk.shape, generator=noise, dtype=torch.float32)
        out.copy_(uniform.to(chunk.device) < chunk.to(torch.float32) / divisor)
    return ResidentRows(bits)


@dataclass(frozen=True, eq=False)
class BinarisedSource:
    """A source whose rows are binarised as they are read, each by (seed, position in the source).

    A stored copy would be as large as the source, so the bits are a function of the position: the same
    at every reading, in any order.
    """

    source: Source
    divisor: float
    seed: int
    stream: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    def __len__(self) -> int:
        return len(self.source)

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """The bits of the rows at `positions`, uint8 `(B, *event)`."""
        rows = self.source.read(positions)
        key = _sequence(self.seed, self.stream).generate_state(2, np.uint64)
        uniform = np.empty(rows.shape, dtype=np.float32)
        for out, position in zip(uniform, positions.tolist()):
            # a counter-based generator jumps to the row's own stretch of random numbers
            philox = np.random.Philox(key=key, counter=[0, position, 0, 0])
            np.random.Generator(philox).random(dtype=np.float32, out=out)
        return (torch.from_numpy(uniform) < rows.to(torch.float32) / self.divisor).to(torch.uint8)


def _sequence(seed: int, stream: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([int(seed), stream])
