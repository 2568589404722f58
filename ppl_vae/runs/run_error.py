"""What goes wrong with a run's folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class RunError(ValueError):
    """A run's folder that cannot be read or written; names the file, what is wrong and the fix."""


class WriteError(RunError, OSError):
    """A file that cannot be written; what was at its place before is still there."""


_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space: your quota is used up",
    errno.EFBIG: "raise the limit on a file's size",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that you may write, or change its permissions",
    errno.EPERM: "choose a folder that you may write, or change its permissions",
}


def write_error(path: Path, error: BaseException) -> WriteError | None:
    """The failure of a write as one clear error; None where it is no failure of the disk's."""
    found = _system_error(error)
    if found is None and not _is_writers(error):
        return None
    number = found.errno if found is not None else None
    reason = (found.strerror or str(found)) if found is not None else f"{error}"
    advice = _ADVICE.get(number or 0, "free some space, or see what the system says")
    if number is None and "os error 28" in reason:  # safetensors' own words
        number, reason, advice = errno.ENOSPC, "No space left on device", _ADVICE[errno.ENOSPC]
    kept = ", and the file there is as it was" if os.path.exists(path) else ""
    written = WriteError(f"{path} cannot be written ({reason}){kept}: {advice}")
    written.errno = number
    return written


def _system_error(error: BaseException | None) -> OSError | None:
    """The system's error behind one of a library's."""
    while error is not None:
        if isinstance(error, OSError) and not isinstance(error, RunError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _is_writers(error: BaseException) -> bool:
    """Whether a library says in its own words that it could not write."""
    if type(error).__name__ == "SafetensorError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "PytorchStreamWriter" in text
        or "unexpected pos" in text
        or "write failed" in text
        or "iostream error" in text  # at the very end of a file: basic_ios::clear
    )
