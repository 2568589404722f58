"""A unit: what Inductor makes of a graph on a CPU, its kernels compiled together and loaded from there.

Private to Inductor, as `inductor_private.PRIVATE` says; without it each kernel is compiled alone.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

from ppl_vae.compiler import CompileError
from ppl_vae.compiler.sealed import sealed, whole


class _Kernel(NamedTuple):
    """What stands for a kernel that Inductor has generated until all of its module are compiled."""

    number: int


class Unit(NamedTuple):
    """What Inductor made of a graph.

    Attributes:
        file: the Python that calls the kernels.
        library: the kernels' shared library; empty without any.
        kernels: by their names in the file, their numbers in the library.
    """

    file: str
    library: str
    kernels: dict[str, int]


@contextmanager
def one_unit(made: list[Unit]) -> Iterator[None]:
    """Inside, all kernels that Inductor generates for a graph on a CPU are compiled as one C++ file.

    Most of a compiler's time for one of them is for its headers. What was made is appended to `made`, by the
    thread that entered.
    """
    from torch._inductor.async_compile import AsyncCompile

    thread = threading.get_ident()

    def cpp_pybinding(self: Any, argtypes: list[str], source_code: str) -> Any:
        kernels = vars(self).setdefault("_kernels", [])
        kernels.append((argtypes, source_code))
        return _Kernel(len(kernels) - 1)

    def wait(self: Any, scope: dict[str, Any]) -> None:
        there = {name: found.number for name, found in scope.items() if isinstance(found, _Kernel)}
        library = _compiled(self._kernels) if there else ""
        scope.update(load_kernels(library, there))
        if (file := scope.get("__file__")) and threading.get_ident() == thread:
            made.append(Unit(file, library, there))
        waited(self, scope)

    waited = AsyncCompile.wait
    with patch.object(AsyncCompile, "cpp_pybinding", cpp_pybinding), patch.object(AsyncCompile, "wait", wait):
        yield


def load_kernels(library: str, kernels: Mapping[str, int]) -> dict[str, Callable[..., Any]]:
    """By name, the functions of some kernels in a shared library, of which there are the numbers.

    Raises:
        CompileError: for a library that is damaged, which could end the process.
    """
    if kernels and not whole(library):
        raise CompileError(f"damaged: {library}")
    guards: Any = torch._C._dynamo.guards
    address = str(guards._torchinductor_pyobject_tensor_data_ptr)
    os.environ["_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"] = address  # read by each when it is loaded
    found = {}
    for name, number in kernels.items():
        entry = f"kernel_{number}"
        loader = ExtensionFileLoader(entry, library)
        module: Any = module_from_spec(ModuleSpec(entry, loader, origin=library))
        loader.exec_module(module)
        found[name] = getattr(module, entry)
    return found


def _compiled(kernels: Sequence[tuple[Sequence[str], str]]) -> str:
    """The shared library of some kernels, of each of which there are the arguments' types and the source."""
    from torch._inductor.codecache import CppPythonBindingsCodeCache as Cache

    includes, parts = dict.fromkeys(["#include <Python.h>"]), []
    for number, (types, source) in enumerate(kernels):
        name = f"kernel_{number}"
        arguments = ", ".join(
            f"parse_arg<{each.replace('const ', '')}>(args, {place})" for place, each in enumerate(types)
        )
        binding = Cache.suffix_template.format(
            arg_len=len(types),
            call_entry_func=Cache.call_entry_function.format(arguments).replace("kernel", name, 1),
            entry_func=name,
            extra_parse_arg="",
        )
        lines = f"{source}\n{binding}".splitlines()
        includes |= dict.fromkeys(line.strip() for line in lines if line.lstrip().startswith("#include"))
        body = "\n".join(line for line in lines if not line.lstrip().startswith("#include"))
        body = re.sub(r"\bkernel\(", f"{name}(", body)
        parts.append(f"namespace unit_{number} {{\n{body}\n}}")
    code = "\n".join(["#define PY_SSIZE_T_CLEAN", *includes, *parts])
    kind: Any = type("Unit", (Cache,), {"entry_function": "kernel_0", "cache": {}})
    with sealed():
        load = kind.load_async(code)
    return str(load().__file__)
