"""One owner for a run's folder: a lock that dies with its process, and a folder that is not lost sight of."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from ppl_vae.runs.atomic import atomic_write, clean
from ppl_vae.runs.run_error import RunError, write_error

LOCK, OWNER = ".lock", ".owner.json"

_held: dict[str, Owner] = {}
_mutex = threading.Lock()


@contextmanager
def owned(path: str | Path) -> Iterator[Owner]:
    """Be the one writer of a folder; the folder is made, and the same thread may enter again.

    Raises:
        RunError: while another process or thread owns the folder; names it.
        WriteError: for a folder that cannot be made or written.
    """
    owner = _enter(Path(path))
    try:
        yield owner
    finally:
        _leave(owner)


class Owner:
    """The hold on a folder, by `owned`.

    A folder that is removed, renamed or replaced meanwhile is noticed at the next write: what the run has
    kept is written anew, there or, where something else has taken its place, in a folder beside it, and
    `tell` says so.

    Attributes:
        path: the folder, absolute.
        kept: small files by name, such as config.yaml, which are written again where they are missing.
    """

    def __init__(self, path: Path) -> None:
        self.shown = path
        self.path = Path(os.path.abspath(path))
        self.kept: dict[str, str] = {}
        self.thread, self.process, self.depth = threading.get_ident(), os.getpid(), 1
        self._notes: list[str] = []
        self._made = [each for each in (self.path, *self.path.parents) if not os.path.exists(each)]
        self._lock, self._identity, self._descriptor = _take(self.path, self.shown)
        clean(self.path)

    def keep(self, name: str, text: str) -> None:
        """Have a small file in the folder from its next write on; one that is there already stays."""
        if (self.path / name).is_file():
            with suppress(OSError, UnicodeDecodeError):
                text = (self.path / name).read_text(encoding="utf-8")
        self.kept[name] = text

    def before_write(self) -> None:
        """Find the folder as it was left, or make it so."""
        if self.is_lost():
            self._recover()
        for name, text in self.kept.items():
            if not (self.path / name).exists():
                _write_text(self.path / name, text)

    def is_lost(self) -> bool:
        """Whether the folder, or its lock, is no longer the one that was taken."""
        return _identity(self.path) != self._identity

    def tell(self) -> None:
        """Warn of what happened to the folder; after everything has been written."""
        notes, self._notes = self._notes, []
        for note in notes:
            warnings.warn(note, UserWarning, stacklevel=3)

    def release(self) -> None:
        """Let the folder go."""
        with suppress(OSError):
            if not self.is_lost():
                (self.path / OWNER).unlink(missing_ok=True)
                if self._made and os.listdir(self.path) == [LOCK]:  # nothing was written
                    (self.path / LOCK).unlink()
                    for folder in self._made:  # and runs/, where it is empty
                        folder.rmdir()
        self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            with suppress(OSError):
                self._lock.release(force=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._lock = self._descriptor = None

    def _recover(self) -> None:
        """Take the folder anew; where another's files stand in its place, one beside it."""
        old = self.path
        same = self._descriptor is not None and _same_folder(self._descriptor, old)
        free = same or not old.exists() or (old.is_dir() and not _foreign(old))
        taken: tuple[Any, Any, int | None] | None = None
        if free:
            with suppress(RunError):
                taken = _take(old, self.shown)
        if taken is None:
            self.path, taken = _take_beside(old)
            self.shown = self.path
        self._let_go()
        self._lock, self._identity, self._descriptor = taken
        with _mutex:
            _held[_key(self.path)] = self
        if not same:
            self._notes.append(
                f"the folder {old} was removed, renamed or replaced while the run wrote to it: everything "
                f"that the run has is written anew to {self.path}, and goes on there. What was written "
                f"before is wherever that folder is now"
            )


def _enter(path: Path) -> Owner:
    with _mutex:
        key = _key(path)
        owner = _held.get(key)
        if owner is not None and owner.process == os.getpid():
            if owner.thread != threading.get_ident():
                raise RunError(
                    f"{path} is being written by another thread of this process: give each run a run_dir of "
                    "its own"
                )
            owner.depth += 1
            return owner
        try:
            _held[key] = owner = Owner(path)
        except OSError as error:  # a name that is too long, a link that leads to itself
            raise write_error(path, error) or error from error
        return owner


def _leave(owner: Owner) -> None:
    with _mutex:
        owner.depth -= 1
        if owner.depth == 0:
            for key in [key for key, held in _held.items() if held is owner]:
                del _held[key]
            owner.release()


def _key(path: Path) -> str:
    return os.path.realpath(path)


def _take(path: Path, shown: Path) -> tuple[Any, Any, int | None]:
    """Lock a folder, and hold on to it so that its number cannot become another folder's."""
    if os.path.exists(path) and not os.path.isdir(path):
        raise RunError(f"{shown} is a file: give the folder of a run")
    try:
        with suppress(FileNotFoundError):  # another process has just taken away its empty runs/
            path.mkdir(parents=True, exist_ok=True)
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY) if os.name == "posix" else None
    except OSError as error:
        raise write_error(shown, error) or error from error
    try:
        lock = _locked(path, shown)
    except BaseException:
        if descriptor is not None:
            os.close(descriptor)
        raise
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with suppress(OSError):  # it is for an error message alone
        _write_text(path / OWNER, json.dumps(who))
    return lock, _identity(path), descriptor


def _locked(path: Path, shown: Path) -> Any:
    lock = filelock.FileLock(path / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RunError(
            f"{shown} is being written by another process{_who(path)}: wait until it ends, or choose another "
            f"run_dir"
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and (path / LOCK).exists() and not (path / LOCK).is_file():
            raise RunError(
                f"{path / LOCK} is no file: remove it, since the run's lock has that name"
            ) from error
        if isinstance(error, OSError) and not (path / LOCK).exists():
            raise write_error(shown / LOCK, error) or error from error
        if isinstance(error, PermissionError):
            raise write_error(shown / LOCK, error) or error from error
        warnings.warn(
            f"the file system of {shown} has no locks ({error}): nothing keeps a second process from writing "
            f"there at the same time",
            UserWarning,
            stacklevel=2,
        )
        return None
    return lock


def _take_beside(path: Path) -> tuple[Path, tuple[Any, Any, int | None]]:
    for number in range(1, 1000):
        beside = path.with_name(f"{path.name}-rescued" + (f"-{number}" if number > 1 else ""))
        if not beside.exists():
            with suppress(RunError):
                return beside, _take(beside, beside)
    raise RunError(
        f"{path} was removed or replaced while the run wrote to it, and no folder beside it is free"
    )


def _who(path: Path) -> str:
    """The process that holds a lock, as far as it has said so."""
    for _ in range(20):
        try:
            who = json.loads((path / OWNER).read_text(encoding="utf-8"))
            pid, host, since = int(who["pid"]), str(who["host"]), str(who["since"])
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.01)  # it has the lock and is about to say who it is
            continue
        if host != socket.gethostname() or _is_alive(pid):
            return f" (pid {pid} on {host}, since {since})"
        time.sleep(0.01)  # the note of one that was killed, about to be replaced
    return ""


def _is_alive(pid: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _identity(path: Path) -> tuple[Any, Any] | None:
    """What tells this folder, and its lock, from others of the same name."""
    try:
        folder = path.stat()
    except OSError:
        return None
    try:
        lock = (path / LOCK).stat()
    except OSError:
        return (folder.st_dev, folder.st_ino), None
    return (folder.st_dev, folder.st_ino), (lock.st_dev, lock.st_ino)


def _same_folder(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _foreign(path: Path) -> bool:
    return any(name not in (LOCK, OWNER) for name in os.listdir(path))


def _write_text(path: Path, text: str) -> None:
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _forget_parents() -> None:
    """A forked child owns nothing of its parent's."""
    global _mutex
    _held.clear()
    _mutex = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)
