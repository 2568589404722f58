"""What the attacks share: how long they are, a pair that is quickly trained, children to kill,
and the verdict.
"""

from __future__ import annotations

import datetime
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

import ppl_vae as pv
from ppl_vae import Pair, estimators, guides, models, nets

LENGTH = os.environ.get("PPL_VAE_ATTACK")
RESULTS = Path(os.environ.get("PPL_VAE_ATTACK_RESULTS", "benchmarks/results/attack.json"))
PACKAGE = str(Path(pv.__file__).parent)
EPOCHS = 5
X = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
quiet_forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

CLEAR = (ValueError, TypeError, pv.TrainingError, ImportError)
"""What an error may be that a user is meant to read; RunError, PairError and DataError are ValueErrors."""


def times(small: int, large: int) -> int:
    """How often: `small`, or `large` times `PPL_VAE_ATTACK` where that is set."""
    return small if not LENGTH else max(small, round(large * float(LENGTH)))


def record(name: str, **figures: Any) -> None:
    """Print what an attack counted, and where it was a long one write it down with the date.

    A long one calls it on its way too: where it is ended before it is done, its figures are there.
    """
    print(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in figures.items()))
    if not LENGTH:
        return
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    date = datetime.date.today().isoformat()
    known[name] = {"date": date, "torch": torch.__version__, "python": sys.version.split()[0], **figures}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


def make_pair(seed: int = 0) -> Pair:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Pair(
            models.LinearGaussian(1, 2),
            guides.MeanField(nets.MLPEncoder((2,), 1, hidden=(4,))),
            example=(X[:4],),
        )


def train(folder: Path | None, epochs: int = EPOCHS, **options: Any) -> pv.Run:
    settings = {"batch_size": 20, "seed": 1, "progress": False, "device": "cpu", "check": False, **options}
    return pv.fit(make_pair(), estimators.IWAE(2), X, epochs=epochs, run_dir=folder, **settings)


def state(pair: Pair) -> list[list[float]]:
    return [value.flatten().tolist() for value in pair.state_dict().values()]


@dataclass(frozen=True)
class Ended:
    """How a child ended: by this signal, or with this code; what it raised, if anything."""

    signal: int
    code: int
    error: str

    @property
    def done(self) -> bool:
        return not self.signal and not self.code


def forked(action: Callable[[], Any], kill_after: float | None = None, timeout: float = 120.0) -> Ended:
    """Run an action in a child, killed after some seconds where they are given;
    it takes `timeout` at most.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 3
        try:
            nothing = os.open(os.devnull, os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(nothing, standard)
            action()
            code = 0
        except BaseException as error:
            os.write(
                writer,
                f"{verdict(error) or 'clear'}\n{traceback.format_exc()}"[-4000:].encode(
                    errors="backslashreplace"
                ),
            )
            code = 1 if not verdict(error) else 2
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        if kill_after is not None and not _says(file, kill_after):
            os.kill(child, signal.SIGKILL)  # waited for only below, so its number is still its own
        in_time = _says(file, timeout)
        if not in_time:
            os.kill(child, signal.SIGKILL)
        said = file.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    assert in_time, f"the child did not end within {timeout} s"
    return Ended(
        os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, os.waitstatus_to_exitcode(status), said
    )


def _says(file: BinaryIO, seconds: float) -> bool:
    """Whether a child says something, or ends, within so many seconds: its end of the pipe is closed then."""
    return bool(select.select([file], [], [], seconds)[0])


def verdict(error: BaseException) -> str:
    """Empty for a clear error: of one of the kinds meant for users, with words,
    and raised by our own code.
    """
    if not isinstance(error, CLEAR):
        return f"{type(error).__name__} is not for users: {error}"
    if len(str(error)) < 10:
        return f"{type(error).__name__} says nothing: {str(error)!r}"
    frames = traceback.extract_tb(error.__traceback__)
    where = frames[-1]
    if where.filename.endswith("torch/nn/modules/module.py") and "positional argument" in str(error):
        return ""  # a program that takes another number of tensors: Python says whose and how many
    if not where.filename.startswith(PACKAGE):
        return f"{type(error).__name__} from {where.filename}:{where.lineno}: {error}"
    return ""


def outcome(action: Callable[[], Any]) -> tuple[Any, str]:
    """An action's result and the verdict on what it raised: the result is None where it raised."""
    try:
        return action(), ""
    except Exception as error:
        return None, verdict(error)


def assert_none(found: list[str], what: str, limit: int = 10) -> None:
    """Fail with the first findings, if there are any."""
    listed = "\n".join(found[:limit])
    assert not found, f"{len(found)} {what}:\n{listed}"
