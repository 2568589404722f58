"""What the contenders of `step_time.py` share, each in a process and an environment of its own.

Python's own library and NumPy alone. A contender gives `serve` a function from a point of the grid to one
training step; questions come in as lines of JSON, and so go the answers.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

ROWS, SIDE = 10_000, 28
PIXELS = SIDE * SIDE

Point = dict[str, Any]
Run = Callable[[], float]


def rows() -> np.ndarray:
    """Bytes (ROWS, PIXELS): most near 0, some near 255, as those of digits; speed does not hang on more."""
    return (np.random.default_rng(0).random((ROWS, PIXELS)) ** 3 * 255).astype(np.uint8)


def batches(size: int) -> Callable[[], np.ndarray]:
    """The indices of one batch after another, in a shuffled order, for ever."""
    noise = np.random.default_rng(1)

    def forever() -> Iterator[np.ndarray]:
        while True:
            order = noise.permutation(ROWS)
            yield from (order[start : start + size] for start in range(0, ROWS - size + 1, size))

    return forever().__next__


def turn(run: Run, seconds: float) -> float:
    """Median milliseconds of the steps that fit into so many seconds, five at least."""
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - before))
    return statistics.median(times)


def peak() -> float:
    """MiB of memory that this process has taken at most."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def serve(make: Callable[[Point], Run], profile: Callable[[Run], Any] | None = None) -> None:
    """Answer `{"make": point}`, `{"seconds": ...}`, `{"memory": true}` and `{"profile": true}` until there is
    no more.
    """
    imported = peak()
    run: Run | None = None
    for line in sys.stdin:
        question = json.loads(line)
        answer: dict[str, Any] = {}
        if "make" in question:
            before = time.perf_counter()
            run = make(question["make"])
            loss = run()
            answer = {"first": time.perf_counter() - before, "loss": float(loss)}
        elif run is None:
            raise RuntimeError(f"{question} before a step was made")
        elif "seconds" in question:
            answer = {"milliseconds": turn(run, question["seconds"])}
        elif "memory" in question:
            answer = {"peak": peak(), "imported": imported}
        elif "profile" in question and profile is not None:
            answer = {"profile": profile(run)}
        print(json.dumps(answer), flush=True)
