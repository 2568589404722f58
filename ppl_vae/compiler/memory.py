"""A process's memory: kept from step to step, and not searched for garbage while a graph is compiled."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

MiB = 2**20
KEPT = 512 * MiB
_LARGEST_IN_HEAP = 32 * MiB  # the most that glibc allows
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


@functools.cache
def keep_memory() -> bool:
    """Let glibc's malloc keep up to 512 MiB of freed memory for this process; whether that could be done.

    Else each step's larger tensors lie on fresh pages, and the system's work for a page (a fault, and
    zeros written) takes longer than a kernel's: 2 ms of the 10 ms of a step of IWAE's net with 20 data and 50
    particles. It holds for the whole process. Whoever sets malloc's thresholds by its environment
    variables is left alone.
    """
    if platform.libc_ver()[0] != "glibc" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & set(
        os.environ
    ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_IN_HEAP)) and bool(mallopt(_TRIM_THRESHOLD, KEPT))


@contextmanager
def without_collection() -> Iterator[None]:
    """Inside, Python looks for no cycles of objects, which takes a seventh of the time to a graph."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
