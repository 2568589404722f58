"""What a CPU does fastest in C++ of one's own, beside this file: matrix products, a cipher's words, Adam, a
mode of all of torch's threads.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_vae.capture.rewrites.processor import quiet_import, unprobed

_SOURCES = [Path(__file__).with_name(name) for name in ("native.cpp", "products.cpp", "operators.cpp")]
# torch leaves loops to its own vectors; here a compiler makes them
_FLAGS = ("-ftree-loop-vectorize", "-fno-math-errno", "-ffp-contract=fast")


@functools.cache
def library() -> Any:
    """The compiled functions, whose operators are torch's from then on; None where torch's CPU code does not
    run on OpenMP or they do not compile.
    """
    try:
        with quiet_import(), unprobed():
            from torch._inductor.codecache import CppCodeCache

            source = "".join(each.read_text() for each in _SOURCES)
            found: Any = CppCodeCache.load(source, extra_flags=_FLAGS)
        found.adam.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
        found.adam.restype = None
        found.offer.restype = ctypes.c_bool
        return found if found.offer() else None
    except Exception:  # a private part of torch: without it some steps are slower, and right
        return None


# in a graph each is one operation, of which a compiler has nothing to make; they need `library`
_operators = torch.library.Library("ppl_vae", "DEF")
_operators.define("threefry(Tensor key, int stream, int count, bool both) -> Tensor")
_operators.define("product(Tensor a, Tensor b) -> Tensor")
_operators.define("column_sums(Tensor x) -> Tensor")
_operators.impl("threefry", lambda key, _, count, both: key.new_empty((1 + both, count)), "Meta")
_operators.impl("product", lambda a, b: a.new_empty(a.shape[0], b.shape[1]), "Meta")
_operators.impl("column_sums", lambda x: x.new_empty(1, x.shape[1]), "Meta")


def words(key: Tensor, stream: int, count: int, both: bool) -> Tensor:
    """(2 or 1, count) words of random bits, in int32: the cipher of (0, stream), (1, stream), ..."""
    found: Tensor = torch.ops.ppl_vae.threefry(key, stream, count, both)
    return found
