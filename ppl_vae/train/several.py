"""Several devices: the processes' connection ends before Python does."""

from __future__ import annotations

import atexit
import functools
import gc
import sys

import torch


@functools.cache
def disconnect_at_exit() -> None:
    """Have `torch.distributed` end its threads when Python is about to end, once for all trainings.

    A thread of the gloo backend gives its tensors back a moment after who waits for them has gone on. Where
    the interpreter is coming down by then, it ends that thread where it stands, and C++ ends the process: a
    training that has worked out exits with -6. Lightning disconnects at the exit for NCCL only, torch for
    none (pytorch/pytorch#190489). A program that keeps the group itself in a variable keeps its threads.
    """
    atexit.register(_disconnect)


def _disconnect() -> None:
    """Not after an error: a collective that another process never joined would be waited for."""
    distributed = torch.distributed
    if hasattr(sys, "last_type") or not (distributed.is_available() and distributed.is_initialized()):
        return
    distributed.destroy_process_group()
    gc.collect()  # what refers to itself may hold the connection, a wrapped module among them
