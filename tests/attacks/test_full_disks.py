"""A disk that is full, or fails, at any write: one clear error, nothing lost,
and the run goes on from there.
"""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

import ppl_vae as pv
from tests.attacks.faults import ERRORS, at_change, refuse
from tests.attacks.helpers import EPOCHS, Ended, forked, needs_fork, quiet_forks, record, state, times, train

pytestmark = [needs_fork, quiet_forks]


@pytest.fixture(scope="module")
def weights():
    return state(train(None, epochs=EPOCHS).pair)


def finish(folder: Path, ended: Ended, weights: list, what: str) -> bool:
    """Whether a write was refused; the run must have said so clearly, and go on to the right end."""
    assert not ended.signal, f"{what}: died of signal {ended.signal}"
    assert ended.code in (0, 1), f"{what}: {ended.error}"
    again = forked(lambda: train(folder, resume=True))
    assert again.done, f"after {what}: {again.error}"
    assert state(pv.load(folder)) == weights
    return ended.code == 1


def test_a_write_that_the_system_refuses(tmp_path, weights):
    choose, refused = random.Random(2), 0
    for trial in range(times(6, 300)):
        folder, number, error = tmp_path / f"{trial}", choose.randint(1, 90), choose.choice(ERRORS)

        def victim(folder=folder, number=number, error=error) -> None:
            at_change(folder, number, refuse(error))
            train(folder)

        refused += finish(folder, forked(victim), weights, f"error {error} at change {number}")
        record("writes refused", trials=trial + 1, told=refused, work_lost=0)


def test_files_that_may_not_grow(tmp_path, weights):
    resource = pytest.importorskip("resource")
    choose, refused = random.Random(3), 0
    for trial in range(times(4, 200)):
        folder, size = tmp_path / f"{trial}", int(10 ** choose.uniform(0, 4.2))

        def victim(folder=folder, size=size) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            train(folder)

        refused += finish(folder, forked(victim), weights, f"files of {size} bytes at most")
        record("files that may not grow", trials=trial + 1, told=refused, work_lost=0)
