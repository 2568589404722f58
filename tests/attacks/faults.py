"""Faults at the n-th change that a process makes to a folder: it is killed there, or the system refuses."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def at_change(folder: Path, number: int, action: Callable[[str], Any]) -> None:
    """Have `action(what)` happen in this process just before its n-th change of something in a folder.

    For children alone: an audit hook cannot be taken away again.
    """
    beneath, left = str(folder), number

    def count(what: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            action(what)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING and beneath in _text(path):
                count(f"open {path}")
        elif event in _CHANGES and beneath in _text(arguments[0]):
            count(f"{event} {arguments[0]}")

    sync = os.fsync

    def counted_sync(descriptor: int) -> None:
        count("fsync")
        sync(descriptor)
        count("after fsync")

    os.fsync = counted_sync
    sys.addaudithook(hook)


def kill(what: str) -> None:
    """As `kill -9` does: nothing is flushed, closed or unlocked."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number: int) -> Callable[[str], None]:
    """The system's error of this number."""

    def raising(what: str) -> None:
        raise OSError(number, os.strerror(number), what.split(" ", 1)[-1])

    return raising


ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)


def _text(path: Any) -> str:
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
