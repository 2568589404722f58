"""What is known of the processor and its compiler before Inductor is asked."""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

OLDEST = {"g++": 9, "clang++": 9}
"""Compilers that know the vectors of every processor on which torch uses them."""
_BEYOND = {
    "g++": {"avx512vnni": 8, "avx512bf16": 10, "amx": 11, "amx-fp16": 13},
    "clang++": {"avx512vnni": 9, "avx512bf16": 9, "amx": 11, "amx-fp16": 16},
}
"""From which version on they know a flag for what some processors have beyond vectors."""


def compiler() -> str | None:
    """The C++ compiler that Inductor will use; None without one."""
    from torch._inductor import config

    wanted = config.cpp.cxx if isinstance(config.cpp.cxx, tuple | list) else (config.cpp.cxx,)
    return next((name for name in wanted if name and shutil.which(name)), None)


@functools.cache
def _version() -> tuple[str, int]:
    """The compiler's name and version, where torch's own word for the processor can be taken; else 0."""
    name = os.path.basename(compiler() or "")
    vectors = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    if not sys.platform.startswith("linux") or not vectors or name not in OLDEST:
        return name, 0
    try:
        said = subprocess.run([name, "-dumpversion"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return name, 0
    number = re.match(r"\d+", said)
    return name, int(number[0]) if number else 0


def knows_instructions(flags: str = "") -> bool:
    """Whether the compiler knows the processor's vectors, and what more it is to use by these flags.

    Else Inductor compiles and loads small programs to find out, which takes as long as a step's own kernels.
    """
    name, version = _version()
    return version >= OLDEST.get(name, sys.maxsize) and all(
        version >= oldest for part, oldest in _BEYOND[name].items() if part in flags
    )


@contextmanager
def quiet_import() -> Iterator[None]:
    """Inside, where there is no GPU, Inductor starts no processes that wait for its kernels, and is silent
    about a CUDA toolkit that is there all the same.
    """
    name, log = "TORCH_WARM_POOL", logging.getLogger("torch.utils.cpp_extension")
    if torch.cuda.is_available():
        yield
        return
    ours, level = name not in os.environ, log.level
    if ours:
        os.environ[name] = "0"
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        if ours:
            del os.environ[name]


@contextmanager
def unprobed() -> Iterator[None]:
    """Inside, no small program is compiled and loaded for an instruction that processor and compiler know."""
    from torch._inductor import config
    from torch._inductor.cpu_vec_isa import VecISA

    vectors = True if knows_instructions() else config.cpp.vec_isa_ok
    probe = VecISA.check_build

    def check_build(self: Any, code: str) -> bool:
        return knows_instructions(self._arch_flags) or probe(self, code)

    with patch.object(VecISA, "check_build", check_build), config.patch("cpp.vec_isa_ok", vectors):
        yield
