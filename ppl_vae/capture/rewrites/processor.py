"""What is known of the processor and its compiler before Inductor is asked."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

OLDEST = {"g++": 9, "clang++": 9}
"""Compilers that know the instructions of every processor on which torch uses them."""


def compiler() -> str | None:
    """The C++ compiler that Inductor will use; None without one."""
    from torch._inductor import config

    wanted = config.cpp.cxx if isinstance(config.cpp.cxx, tuple | list) else (config.cpp.cxx,)
    return next((name for name in wanted if name and shutil.which(name)), None)


@functools.cache
def knows_instructions() -> bool:
    """Whether torch's own word for the processor's vectors can be taken.

    Else Inductor compiles and loads small programs to find out, which takes as long as a step's own kernels.
    """
    name = os.path.basename(compiler() or "")
    if not sys.platform.startswith("linux") or torch.backends.cpu.get_cpu_capability() not in (
        "AVX2",
        "AVX512",
    ):
        return False
    try:
        said = subprocess.run([name, "-dumpversion"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    version = re.match(r"\d+", said)
    return version is not None and int(version[0]) >= OLDEST.get(name, sys.maxsize)


@contextmanager
def quiet_import() -> Iterator[None]:
    """The first import of Inductor starts no processes that wait for a GPU's kernels, where there is none."""
    name = "TORCH_WARM_POOL"
    if torch.cuda.is_available() or name in os.environ:
        yield
        return
    os.environ[name] = "0"
    try:
        yield
    finally:
        del os.environ[name]
