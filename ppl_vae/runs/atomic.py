"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ppl_vae.runs.run_error import write_error

_TEMPORARY = re.compile(r"\..*\.tmp-[0-9a-f]{12}(\.[^.]*)?")


def atomic_write(path: str | Path, writer: Callable[[Path], object]) -> None:
    """Write a file so that whoever looks at `path`, whenever, finds the old content or the new.

    `writer` gets the path of an empty temporary file beside `path`, with its suffix. The file is
    flushed to the disk and then renamed; its permissions are those of any new file. A killed process
    leaves the temporary file, which nothing reads and `clean` removes.

    Raises:
        WriteError: when the disk is full or the folder cannot be written; names the file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> atomic_write(path, lambda temporary: temporary.write_text("hello"))
    >>> path.read_text()
    'hello'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.tmp-{secrets.token_hex(6)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = _create(temporary)
        writer(temporary)
        if stat.S_IMODE(temporary.stat().st_mode) != mode:  # safetensors makes a private file of its own
            temporary.chmod(mode)
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        failure = write_error(path, error) if isinstance(error, Exception) else None
        if failure is None:
            raise
        raise failure from error


def clean(folder: Path) -> None:
    """Remove what killed writers left; for the one process that owns the folder."""
    for leftover in (*folder.glob(".*.tmp-*"), *folder.glob("figures/.*.tmp-*")):
        if _TEMPORARY.fullmatch(leftover.name) and leftover.is_file():
            with suppress(OSError):  # it is in nobody's way
                leftover.unlink(missing_ok=True)


def _create(path: Path) -> int:
    """Make an empty file; the permissions that the system gives it."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """The rename itself is on the disk only when its folder is."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
