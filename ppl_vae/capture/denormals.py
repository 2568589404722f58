"""Numbers too small to be normal count as zero on a CPU, as on a GPU: in one thread, or in all of torch's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# a few lines that are compiled once: torch sets the calling thread's mode alone
_SOURCE = r"""
#include <omp.h>
#if defined(__x86_64__)
#include <immintrin.h>
typedef unsigned int Mode;
static const Mode FLUSH = 0x8040;  // results and operands
static Mode mode() { return _mm_getcsr(); }
static void set(Mode m) { _mm_setcsr(m); }
#elif defined(__aarch64__)
typedef unsigned long Mode;
static const Mode FLUSH = 1ul << 24;
static Mode mode() { Mode m; asm volatile("mrs %0, fpcr" : "=r"(m)); return m; }
static void set(Mode m) { asm volatile("msr fpcr, %0" : : "r"(m)); }
#else
#error "unknown processor"
#endif

static Mode before[1024];

extern "C" void flush_all() {
#pragma omp parallel
  {
    const int thread = omp_get_thread_num();
    if (thread < 1024) {
      before[thread] = mode();
      set(before[thread] | FLUSH);
    }
  }
}

extern "C" void restore_all() {
#pragma omp parallel
  {
    const int thread = omp_get_thread_num();
    if (thread < 1024) set(before[thread]);
  }
}
"""


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
    library = _library()
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


@functools.cache
def _library() -> Any:
    """The compiled functions; None where torch's CPU code does not run on OpenMP or they do not compile."""
    try:
        from torch._inductor.codecache import CppCodeCache

        return CppCodeCache.load(_SOURCE)
    except Exception:  # a private part of torch: without it other threads are slow at times, and right
        return None
