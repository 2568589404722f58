"""What is known of the processor and its compiler before Inductor is asked."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch


def compiler() -> str | None:
    """The C++ compiler that Inductor will use; None without one."""
    from torch._inductor import config

    wanted = config.cpp.cxx if isinstance(config.cpp.cxx, tuple | list) else (config.cpp.cxx,)
    return next((name for name in wanted if name and shutil.which(name)), None)


def has_avx() -> bool:
    """Whether it is an x86 processor with AVX2 or more."""
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


@functools.cache
def knows(flags: str) -> bool:
    """Whether the compiler knows these flags, for instructions that torch has found in the processor.

    Inductor compiles and loads a small program for each, which takes as long as a step's own kernels.
    """
    if not has_avx():
        return False
    try:
        command = [compiler() or "", *flags.split(), "-fsyntax-only", "-x", "c++", "-"]
        return subprocess.run(command, input=b"", capture_output=True).returncode == 0
    except OSError:
        return False


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
    from torch._inductor.cpu_vec_isa import VecISA

    probe = VecISA.check_build

    def check_build(self: Any, code: str) -> bool:
        return knows(self._arch_flags) or probe(self, code)

    with patch.object(VecISA, "check_build", check_build):
        yield
