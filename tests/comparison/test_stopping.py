"""A comparison by worker processes that is stopped: no worker is left, what is finished is kept,
and one line says how to go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ppl_vae.comparison.trainings import folder_of_runs
from ppl_vae.comparison.workers import end_with
from ppl_vae.terminal.interrupts import Terminated
from tests.attacks.helpers import needs_fork, quiet_forks

COMMAND = ["compare", "--data", "digits", "--estimators", "[ELBO, IWAE]", "--n_jobs", "2", "--seeds", "[0]"]
COMMAND += ["--progress", "false", "--fit.device", "cpu", "--fit.capture", "false", "--judge_particles", "10"]
SECONDS = 300


def test_who_stops_it_is_told_how_it_goes_on(tmp_path, capsys):
    told = r"^IWAE, seed 3; the same call with run_dir='.*runs' goes on from there$"
    with pytest.raises(KeyboardInterrupt, match=told), folder_of_runs(tmp_path / "runs", {}):
        raise KeyboardInterrupt("IWAE, seed 3")
    with pytest.raises(Terminated), folder_of_runs(tmp_path / "runs", {}):
        raise Terminated
    assert capsys.readouterr().err.startswith("terminated: the same call with run_dir=")
    with pytest.raises(KeyboardInterrupt, match=r"^$"), folder_of_runs(None, {}):
        raise KeyboardInterrupt  # nothing was kept


@needs_fork
@quiet_forks
def test_a_worker_ends_with_the_process_that_started_it():
    """As soon as that is gone, however it ended: the pipe that the worker alone holds is closed."""
    reader, writer = os.pipe()
    starter = os.fork()
    if starter == 0:
        if os.fork() == 0:
            os.close(reader)
            end_with(os.getppid())
            os.write(writer, b"works")
            time.sleep(SECONDS)
        signal.pause()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read(5) == b"works"
        os.kill(starter, signal.SIGKILL)
        os.waitpid(starter, 0)
        began = time.monotonic()
        assert pipe.read() == b""
    assert time.monotonic() - began < SECONDS / 2


@needs_fork
def test_the_process_itself_and_a_strangers_child_are_no_workers():
    before = threading.active_count()
    end_with(os.getpid())
    end_with(1 if os.getppid() != 1 else 2)
    assert threading.active_count() == before


def start(folder: Path, epochs: int) -> subprocess.Popen:
    """The command in a group of its own, as a terminal has it."""
    hears = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    return subprocess.Popen(
        [sys.executable, "-c", f"{hears}from ppl_vae.cli import main; sys.exit(main(sys.argv[1:]))",
         *COMMAND, "--epochs", str(epochs), "--run_dir", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def workers(folder: Path) -> list[int]:
    """The processes that write to the runs' folders now."""
    found = []
    for path in folder.glob("*/seed-0/.owner.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(path.read_text())["pid"])
    return found


def wait_for(what, seconds: float = SECONDS):
    until = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


INTERRUPTED = "ppl-vae: interrupted: the same command with --run_dir {} goes on from there"
ENDED = "terminated: the same call with run_dir='{}' goes on from there"


@pytest.mark.grid
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("number", "to", "code", "line"),
    [
        (signal.SIGINT, "group", 130, INTERRUPTED),
        (signal.SIGINT, "starter", 130, INTERRUPTED),
        (signal.SIGTERM, "starter", 143, ENDED),
        (signal.SIGTERM, "group", 143, ENDED),
        (signal.SIGKILL, "starter", -9, ""),
        (signal.SIGKILL, "worker", 1, "ppl-vae: error: a worker process was killed"),
    ],
)
def test_a_comparison_that_is_stopped_while_it_trains(tmp_path, number, to, code, line):
    command = start(tmp_path / "runs", 5000)
    try:
        assert wait_for(lambda: len(list(tmp_path.glob("runs/*/seed-0/checkpoint.pt"))) == 2)
        found = workers(tmp_path / "runs")
        assert len(found) == 2
        if to == "group":
            os.killpg(command.pid, number)
        else:
            os.kill(command.pid if to == "starter" else found[0], number)
        _, errors = command.communicate(timeout=SECONDS)
        assert command.returncode == code, errors
        assert "Traceback" not in errors
        if line:  # else joblib's own process tells what it puts away for the one that was killed
            assert errors.startswith(line.format(tmp_path / "runs"))
            assert len(errors.splitlines()) == 1, errors
        assert wait_for(lambda: not any(alive(pid) for pid in found), 20), "a worker goes on"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
        command.communicate()
    assert len(list(tmp_path.glob("runs/*/seed-0/checkpoint.pt"))) == 2  # from here it goes on
