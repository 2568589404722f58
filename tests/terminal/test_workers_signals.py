"""Ctrl-C and SIGTERM where there are workers: what is put away, what is inherited, what is as it was."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from ppl_vae.terminal.interrupts import Terminated, inherited_deafness, sigterm_raises

HEARS = "import signal; print(signal.getsignal(signal.SIGINT) is not signal.SIG_IGN)"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def handlers():
    """Those of a program in a terminal: what a shell runs in the background begins with Ctrl-C ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def child_hears() -> str:
    return subprocess.run([sys.executable, "-SEc", HEARS], capture_output=True, text=True, check=True).stdout


def test_processes_that_are_started_deaf_stay_so_and_others_hear():
    with inherited_deafness():
        assert child_hears() == "False\n"
    assert child_hears() == "True\n"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_sigterm_unwinds_and_ends_with_the_code_of_a_terminated_process():
    unwound: list[bool] = []
    stack = contextlib.ExitStack()
    stack.callback(unwound.append, True)
    with pytest.raises(Terminated) as ended, sigterm_raises(), stack:
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert unwound
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_whoever_looks_after_sigterm_goes_on_doing_so():
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
    with sigterm_raises():
        signal.raise_signal(signal.SIGTERM)
    assert heard == [True]
