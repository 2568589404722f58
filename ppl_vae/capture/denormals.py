"""Numbers too small to be normal count as zero on a CPU, as on a GPU: in one thread, or in all of torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ppl_vae.capture.rewrites import native


@contextmanager
def without_denormals() -> Iterator[None]:
    """Numbers below 1e-38 in float32 (1e-308 in float64) count as 0, as on a GPU; afterwards as before.

    A CPU takes some hundred cycles for each product with one of them, and the particles' normalised
    weights are full of them: the gradients' matrix products of 50 particles took five times as long.
    It holds for the calling thread; torch's other threads follow only if they start after this.
    """
    smallest = 5e-324
    if smallest + 0.0 == 0.0 or not torch.set_flush_denormal(True):  # it is so, or cannot be done
        yield
        return
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def without_denormals_anywhere(run: Callable[..., Any]) -> Callable[..., Sequence[Tensor]]:
    """`run` with numbers too small to be normal counted as zero in all of torch's threads.

    See `without_denormals`, which sets the calling thread's mode alone.
    """
    library = native.library()
    if library is None:
        return run
    flush, restore = library.flush_all, library.restore_all

    def flushing(*inputs: Tensor) -> Sequence[Tensor]:
        flush()
        try:
            results: Sequence[Tensor] = run(*inputs)
            return results
        finally:
            restore()

    return flushing
