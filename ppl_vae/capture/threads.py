"""Floating-point modes of all of torch's CPU threads, set by a few lines of C++ that are compiled once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

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


def without_denormals_anywhere(run: Callable[..., Any]) -> Callable[..., Sequence[Tensor]]:
    """`run` with numbers too small to be normal counted as zero in all of torch's threads.

    See `numerics.without_denormals`, which sets the calling thread's mode alone.
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
