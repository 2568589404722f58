"""Freed memory is kept, in a process of its own, since it holds for a whole process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from ppl_vae.compiler.memory import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        tensors = [torch.ones(2**20) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
assert keep_memory() and keep_memory()
for _ in range(3):  # until the heap has grown
    now = faults()
assert now < first / 10, (now, first)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told to")
def test_freed_memory_is_kept():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, env={"PATH": ""})


def test_who_has_set_the_thresholds_is_left_alone(monkeypatch):
    from ppl_vae.compiler import memory

    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert not memory.keep_memory.__wrapped__()
