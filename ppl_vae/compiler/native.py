"""What a CPU does fastest in C++ of one's own, beside this file: matrix products, a cipher's words, Adam, a
mode of all of torch's threads.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from ppl_vae.compiler.processor import quiet_import, unprobed
from ppl_vae.compiler.sealed import sealed, whole

_NAMES = ("native", "products", "sums", "operators")  # one file for the compiler, in this order
_SOURCES = [Path(__file__).with_name(f"{name}.cpp") for name in _NAMES]
# torch leaves loops to its own vectors; here a compiler makes them
_FLAGS = ("-ftree-loop-vectorize", "-fno-math-errno", "-ffp-contract=fast")


@functools.cache
def start() -> Callable[[], Any] | None:
    """Let the C++ be compiled, beside all that goes on here; what waits for it, None where that cannot be."""
    try:
        with quiet_import(), unprobed(), sealed():
            from torch._inductor.codecache import CppCodeCache

            source = "".join(each.read_text() for each in _SOURCES)
            aside = ThreadPoolExecutor(1, "ppl_vae_native").submit
            waits: Callable[[], Any] = CppCodeCache.load_async(source, submit_fn=aside, extra_flags=_FLAGS)
            return waits
    except Exception:  # a private part of torch: without it some steps are slower, and right
        return None


_loaded: dict[str, Any] = {}


def library(path: str | None = None) -> Any:
    """The compiled functions, whose operators are torch's from then on; None where torch's CPU code does not
    run on OpenMP or they do not compile.

    Args:
        path: of the shared library, where it is known and none is loaded yet.
    """
    if path is not None and "library" not in _loaded:
        found = _offered(functools.partial(ctypes.CDLL, path)) if whole(path) else None
        return None if found is None else _loaded.setdefault("library", found)
    if "library" not in _loaded:
        _loaded["library"] = _offered(start())
    return _loaded["library"]


def _offered(waits: Callable[[], Any] | None) -> Any:
    if waits is None:
        return None
    try:
        found = waits()
        found.adam.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
        found.adam.restype = None
        found.offer.restype = ctypes.c_bool
        found.leave_alone.argtypes = [ctypes.c_ulong]
        for thread in _forked:
            found.leave_alone(thread)
        return found if found.offer() else None
    except Exception:
        return None


def expected() -> bool:
    """Whether the library is there, or on its way."""
    return library() is not None if _loaded else start() is not None


_forked: list[int] = []


def _leave_alone() -> None:
    """Tell the loops that the calling thread went through a fork, and its helpers did not."""
    _forked[:] = [threading.get_ident()]
    if (found := _loaded.get("library")) is not None:
        found.leave_alone(*_forked)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_alone)

_library = torch.library.Library("ppl_vae", "DEF")
_library.define("threefry(Tensor key, int stream, int count) -> Tensor")
_library.define("product(Tensor a, Tensor b) -> Tensor")
_library.define("column_sums(Tensor x) -> Tensor")
_library.define("within(Tensor index, int low, int high, int but) -> Tensor")
_library.impl("threefry", lambda key, _, count: key.new_empty((2, count)), "Meta")
_library.impl("product", lambda a, b: a.new_empty(a.shape[0], b.shape[1]), "Meta")
_library.impl("column_sums", lambda x: x.new_empty(1, x.shape[1]), "Meta")
_library.impl("within", lambda index, *_: index.new_empty((), dtype=torch.int64), "Meta")

threefry, product, column_sums, within = (
    getattr(torch.ops.ppl_vae, name).default for name in ("threefry", "product", "column_sums", "within")
)
OPERATORS = (threefry, product, column_sums, within)
"""In a graph each is one operation, of which a compiler has nothing to make; they need `library`.

The words of random bits (2, count) of the cipher at (0, stream), (1, stream), ... under a key of two words,
int32; in float32 a (M, K) times b (K, N), and the sums (1, N) over the rows of x (M, N); and 0, 0-d, where
all numbers of an index, int32 or int64, are in [low, high) or `but`, else an IndexError.
"""
