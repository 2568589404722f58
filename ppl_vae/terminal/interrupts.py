"""Ctrl-C while the command `ppl-vae` starts or ends: exit code 130, and nobody is shown a traceback."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CODE = 130


def is_command() -> bool:
    """Whether this process is the command, and not a program of the user's or a test."""
    started = getattr(sys, "orig_argv", [])
    as_module = any(pair == ("-m", "ppl_vae.cli") for pair in itertools.pairwise(started))
    return as_module or Path(sys.argv[0] if sys.argv else "").name in ("ppl-vae", "ppl-vae.exe")


def end_here(*_: Any) -> None:
    """End the process at once: there is nothing to put away, and an exception would be told as one."""
    os.write(2, b"ppl-vae: interrupted\n")
    os._exit(CODE)


@contextmanager
def quietly() -> Iterator[None]:
    """In the command's process, Ctrl-C ends it here and now; elsewhere nothing is changed.

    An exception would not do: whoever imports C extensions may turn a KeyboardInterrupt into an
    ImportError, or print it and go on.
    """
    if not is_command() or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, end_here)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def for_good() -> None:
    """The same from now on, for the command's last moments."""
    if is_command() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, end_here)
