"""Contact with names of Inductor's that are private; without them a graph compiles too, but slower.

And the list of all names of torch's that are, those of `unit` and `kernels` among them.

Seen on torch 2.15; `PRIVATE` says what each is for, and the tests which of them a torch has no longer.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from ppl_vae.compiler.native import OPERATORS

PRIVATE = {
    "torch._C._dynamo.guards._torchinductor_pyobject_tensor_data_ptr": "what kernels call, load_kernels",
    "torch._C._DisableAutocast": "around a graph, in a third of a microsecond, held",
    "torch._inductor.async_compile.AsyncCompile.cpp_pybinding": "what gives out kernels to compile, one_unit",
    "torch._inductor.async_compile.AsyncCompile.wait": "what waits for them, one_unit",
    "torch._inductor.codecache.CppPythonBindingsCodeCache.suffix_template": "how Python calls one, one_unit",
    "torch._inductor.codecache.CppPythonBindingsCodeCache.call_entry_function": "the same, one_unit",
    "torch._inductor.codecache.CppPythonBindingsCodeCache.load_async": "compiles them, one_unit",
    "torch._inductor.codecache.CppCodeCache.load_async": "compiles the C++ of native",
    "torch._inductor.codecache._worker_compile_cpp": "links either, sealed",
    "torch._inductor.codecache.LOCK_TIMEOUT": "how long it waits for another that does, sealed",
    "torch._inductor.codegen.common.KernelTemplate._template_from_string": "costs a tenth, quick_templates",
    "torch._inductor.codegen.cpp.CppVecOverrides.to_dtype": "asked for what torch 2.8 lacks, rounds_casts",
    "torch._inductor.codegen.cpp.CppScheduling.can_fuse_vertical_outer_loop": "fails on some graphs of 2.15",
    "torch._inductor.cpu_vec_isa.VecISA.check_build": "compiles and loads a program by instruction, unprobed",
    "torch._inductor.select_algorithm.extern_kernels": "which are torch's own functions, known",
    "torch._inductor.runtime.cache_dir_utils.cache_dir": "where graphs are kept, known",
    "torch._inductor.lowering.lowerings": "the operators that Inductor knows, known_operators",
    "torch._inductor.lowering.make_fallback": "makes one known that is called as it is, known_operators",
    "torch.optim.optimizer._global_optimizer_pre_hooks": "called at every step, kernels.hooked",
    "torch.optim.optimizer._global_optimizer_post_hooks": "the same",
    "torch.utils._sympy.value_ranges.ValueRanges.tighten": "a fifth of Inductor's time, quick_ranges",
}
"""What for, by name."""


@contextmanager
def quick_ranges() -> Iterator[None]:
    """Inside, Inductor compares a constant's range with itself without sympy's Max and Min."""
    from torch.utils._sympy.value_ranges import ValueRanges

    tighten = ValueRanges.tighten

    def quickly(self: Any, other: Any) -> Any:
        return self if self == other else tighten(self, other)

    with patch.object(ValueRanges, "tighten", quickly):
        yield


class Later:
    """What stands for a thing of Inductor's until something of it is asked for."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._made = functools.cache(make)

    @classmethod
    def of(cls, module: str, name: str) -> Later:
        """One that stands in a module."""
        return cls(lambda: getattr(importlib.import_module(module), name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._made()(*args, **kwargs)


@contextmanager
def quick_templates() -> Iterator[None]:
    """Inside, Inductor, when it is imported, compiles none of its templates, which a GPU's products need."""
    from torch._inductor.codegen.common import KernelTemplate

    make = KernelTemplate._template_from_string
    lazily = staticmethod(lambda source: Later(functools.partial(make, source)))
    with patch.object(KernelTemplate, "_template_from_string", lazily):
        yield


@contextmanager
def known_operators() -> Iterator[None]:
    """From now on Inductor knows our operators before it meets the first of a process.

    Else it makes what that one reads once more wherever else it is read.
    """
    from torch._inductor.lowering import lowerings, make_fallback

    for operator in OPERATORS:
        if operator not in lowerings:
            make_fallback(operator)
    yield


def rounds_casts() -> bool:
    """Whether Inductor's vectors can be asked to round what is cast to 16 bits and back; torch 2.8's fail."""
    from torch._inductor.codegen.cpp import CppVecOverrides

    return "use_compute_types" in inspect.signature(CppVecOverrides.to_dtype).parameters


@contextmanager
def without_fused_outer_loops() -> Iterator[None]:
    """Inside, loops of several depths are not fused.

    torch 2.15 then asks what a kernel reads of a buffer that it only waits for, and finds nothing.
    """
    from torch._inductor.codegen.cpp import CppScheduling

    with patch.object(CppScheduling, "can_fuse_vertical_outer_loop", lambda *_: False):
        yield
