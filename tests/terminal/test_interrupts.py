"""Ctrl-C at any moment of the command: exit code 130, one line, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ppl_vae.terminal import interrupts

# a process that interrupts itself while a module is imported, so that no clock decides when
SITE = """
import os, signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            signal.raise_signal(signal.SIGINT)  # in this very thread, and so now
sys.meta_path.insert(0, Interrupts())
"""


MODULES = [
    "torch",
    "torch._C",
    pytest.param("pyro", marks=pytest.mark.grid),
    pytest.param("ppl_vae.svi", marks=pytest.mark.grid),
    "ppl_vae.cli.command_list",
]


@pytest.mark.parametrize("module", MODULES)
def test_while_it_imports(module, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SITE)
    paths = [str(tmp_path), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "ppl_vae.cli", "list", "schedules"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "INTERRUPT_AT": module},
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "interrupted" in done.stderr


def test_a_program_of_ones_own_gets_its_keyboardinterrupt(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SITE)
    # what a shell runs in the background begins with Ctrl-C ignored, and hands that on to the tests' children
    code = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n    import ppl_vae\nexcept KeyboardInterrupt:\n    print('mine')"
    )
    paths = [str(tmp_path), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "INTERRUPT_AT": "ppl_vae.svi"},
    )  # fmt: skip
    assert done.stdout == "mine\n", (done.returncode, done.stderr)


@pytest.mark.parametrize(("times", "finishes"), [(1, True), (2, False)])
def test_ctrl_c_that_is_heard_later(times, finishes):
    heard, before = [], signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted():
        with interrupts.later():
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
            heard.append("the end")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert bool(heard) is finishes
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
