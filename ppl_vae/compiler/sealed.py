"""Shared libraries that end in a checksum of what comes before it.

Inductor links straight to the file that every later process loads, and asks no more than whether there is one
of that name: a link that was killed would be met for good, and one that lost its end ends the process.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from filelock import FileLock

_SIZE = 4


def whole(library: str) -> bool:
    """Whether this is a file that was linked to its end, and nothing has happened to it since."""
    try:
        content = memoryview(Path(library).read_bytes() if os.path.isfile(library) else b"")
    except OSError:
        return False
    return len(content) > _SIZE and _checksum(content[:-_SIZE]) == content[-_SIZE:]


@contextmanager
def sealed() -> Iterator[None]:
    """Inside, a library that Inductor is asked for is linked, with its checksum, where it is not whole."""
    from torch._inductor import codecache

    of_headers = codecache._worker_compile_cpp

    def build(lock: str, builders: Sequence[Any]) -> None:
        library = builders[-1].get_target_file_path()
        if not library.endswith((".so", ".pyd")):
            of_headers(lock, builders)
            return
        with FileLock(lock, timeout=codecache.LOCK_TIMEOUT):
            if whole(library):
                return
            if os.path.isdir(library):  # else it would wait for who writes to a pipe
                shutil.rmtree(library, ignore_errors=True)
            Path(library).unlink(missing_ok=True)  # and not written over: a process may have loaded it
            for builder in builders:
                builder.build()
            checksum = _checksum(Path(library).read_bytes())
            with Path(library).open("ab") as file:
                file.write(checksum)

    with patch.object(codecache, "_worker_compile_cpp", build):
        yield


def _checksum(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(_SIZE, "little")
