"""A training that is killed at any write, or at any moment,
goes on from its last checkpoint to the same end.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest

import ppl_vae as pv
from ppl_vae.runs.folder import RunFolder
from tests.attacks.faults import at_change, kill
from tests.attacks.helpers import EPOCHS, forked, needs_fork, quiet_forks, record, state, times, train

pytestmark = [needs_fork, quiet_forks]


@pytest.fixture(scope="module")
def after_epoch():
    """The weights after each epoch of a training that nothing disturbs; None of none."""
    return [None, *(state(train(None, epochs=epochs).pair) for epochs in range(1, EPOCHS + 1))]


def epoch_of(folder: Path, after_epoch: list) -> int:
    """How far a folder is; whatever is in it must be right."""
    run, epoch = RunFolder(folder), 0
    if run.has("checkpoint.pt"):
        epoch = run.load_checkpoint()["epoch"]
    if run.has("weights.safetensors"):
        weights = state(pv.load(folder))
        assert weights in after_epoch[max(epoch, 1) : epoch + 2], (
            "the weights are not those of the checkpoint's epoch"
        )
    if run.has("metrics.csv"):
        assert len(run.read_metrics()) in (epoch, epoch + 1)
    return epoch


def attack(name: str, tmp_path: Path, kills: int, strike, after_epoch: list) -> None:
    """Kill and go on until there were so many kills; each run comes to the end of an undisturbed one."""
    done, between, runs, folder, epoch = 0, 0, 0, tmp_path / "run-0", 0
    while True:
        ended = strike(folder) if done < kills else forked(lambda: train(folder, resume=True))
        assert not ended.code > 0, ended.error
        found = epoch_of(folder, after_epoch)
        assert found >= epoch, f"the run was at epoch {epoch} and is at {found} after a kill"
        epoch = found
        done += ended.signal != 0
        between += ended.signal != 0 and 0 < epoch < EPOCHS
        if ended.done:
            assert epoch == EPOCHS
            assert state(pv.load(folder)) == after_epoch[EPOCHS]
            assert not list(folder.glob(".*.tmp-*")), "what killed writers left is still there"
            shutil.rmtree(folder)
            runs, epoch = runs + 1, 0
            folder = tmp_path / f"run-{runs}"
            record(name, kills=done, between_epochs=between, runs=runs, work_lost=0)
            if done >= kills:
                return


def test_killed_at_any_write(tmp_path, after_epoch):
    choose = random.Random(0)

    def strike(folder: Path):
        number = choose.randint(1, 60)

        def victim() -> None:
            at_change(folder, number, kill)
            train(folder, resume=True)

        return forked(victim)

    attack("killed at a write", tmp_path, times(12, 500), strike, after_epoch)


def test_killed_at_any_moment(tmp_path, after_epoch):
    choose, start = random.Random(1), time.monotonic()
    assert forked(lambda: train(tmp_path / "alone")).done
    whole = time.monotonic() - start  # a busy machine's kills come as late in a run as an idle one's

    def strike(folder: Path):
        nonlocal whole
        start = time.monotonic()
        ended = forked(lambda: train(folder, resume=True), kill_after=choose.uniform(0.02, whole))
        whole = 1.1 * whole if ended.signal else time.monotonic() - start  # until one comes to its end
        return ended

    attack("killed at a moment", tmp_path, times(8, 500), strike, after_epoch)


def test_two_at_once_are_one_owner(tmp_path, after_epoch):
    """Of several processes that start the same run one writes; the others say so, and nothing is mixed."""
    for number in range(times(1, 40)):
        folder = tmp_path / f"run-{number}"
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                code = 9
                try:
                    train(folder, resume=True)
                    code = 0
                except ValueError as error:
                    code = 1 if "being written by another process" in str(error) else 8
                finally:
                    os._exit(code)
            children.append(child)
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        assert codes[0] == 0
        assert set(codes) <= {0, 1}, codes
        assert state(pv.load(folder)) == after_epoch[EPOCHS]
        record("three processes, one folder", trials=number + 1, mixed=0)
