"""Runs of a comparison in worker processes, which end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import joblib  # type: ignore[import-untyped]

from ppl_vae.comparison.job import Job, Score
from ppl_vae.runs import RunError
from ppl_vae.terminal.interrupts import inherited_deafness

_LOOKS = 0.5  # seconds between two looks whether who started it is there


def in_processes(jobs: Sequence[Job], n_jobs: int) -> Iterator[tuple[int, Score]]:
    """Each job's number and score, as they come; joblib's backend of now has the workers.

    Of Ctrl-C they hear nothing: joblib ends them when it reaches this process, and what a run has kept
    until then is where the next call goes on from.

    Raises:
        RunError: for a worker that was killed, which is what a system does that is out of memory.
    """
    work = [joblib.delayed(_run)(number, job, os.getpid()) for number, job in enumerate(jobs)]
    make: Callable[..., Any] = joblib.Parallel
    starting: AbstractContextManager[None] = inherited_deafness()
    try:
        parallel = make(n_jobs=n_jobs, prefer="processes", return_as="generator_unordered")
    except ValueError:  # a backend that gives its results at the end only, and so waits for them at once
        parallel, starting = make(n_jobs=n_jobs, prefer="processes"), nullcontext()
    try:
        with starting:
            results = parallel(work)
        yield from results
    except BrokenExecutor as error:
        raise RunError(
            "a worker process was killed, by somebody or by a system out of memory: try fewer n_jobs, or "
            "smaller batches. What is finished is kept where there is a run_dir"
        ) from error


def _run(number: int, job: Job, starter: int) -> tuple[int, Score]:
    end_with(starter)
    return number, job.run()


def end_with(starter: int) -> None:
    """End this process when the one that started it is no more; nothing in workers of a cluster.

    A process that is killed says goodbye to nobody, and its workers would train on.
    """
    is_own = multiprocessing.current_process().name.startswith("LokyProcess") or os.getppid() == starter
    watches = any(thread.name == _end_with.__name__ for thread in threading.enumerate())
    if is_own and os.getpid() != starter and not watches:
        threading.Thread(target=_end_with, args=(starter,), name=_end_with.__name__, daemon=True).start()


def _end_with(starter: int) -> None:
    while os.getppid() == starter:
        time.sleep(_LOOKS)
    os._exit(1)
