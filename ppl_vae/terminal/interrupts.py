"""Ctrl-C while the command `ppl-vae` starts or ends: exit code 130, and nobody is shown a traceback.
Ctrl-C and SIGTERM while workers run: they end too. Ctrl-C while a step is recorded: it waits.
"""

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


class Terminated(SystemExit):
    """SIGTERM, as an exception that ends what runs: exit code 143, as a shell has it."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


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


@contextmanager
def later() -> Iterator[None]:
    """A Ctrl-C meanwhile is heard at the end, and a second one at once.

    For what sets modes of torch's and Pyro's: an exception between the setting of one and the `try` that
    would take it back leaves it on.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def wait(number: int, _: Any) -> None:
        came.append(number)
        signal.signal(number, before)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for number in came:
            signal.raise_signal(number)


@contextmanager
def inherited_deafness() -> Iterator[None]:
    """Processes that are started here do not hear Ctrl-C, which a terminal sends to all that it runs.

    Each would show a traceback of its own, wherever it is. An ignored signal is what a new program inherits;
    for the moment that it takes to start them this process is deaf too.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """SIGTERM raises `Terminated` here, so that what is to be put away, and workers, are.

    Left alone where somebody else looks after it, and in other threads than the main one.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminated(*_: Any) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
