"""Memory that a process keeps between the steps, rather than giving it back and asking for it anew."""

from __future__ import annotations

import ctypes
import functools
import os
import platform

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
