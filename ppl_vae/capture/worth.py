"""Whether capturing repays its compilation: the one place where that is decided.

By the work that there is and no time, so that a training or a score takes the same course on every machine
and every day.
"""

from __future__ import annotations

import torch

from ppl_vae.capture.recording import Recording
from ppl_vae.compiler.processor import compiler

# Of a step or run, seconds to compile, in all and for each operation; and to save each time, in all and for
# each number that its operations write: fitted to nine pairs (benchmarks/worth.py), right within a third.
COMPILATION, COMPILATION_OF_ONE = 0.65, 0.0107
SAVED_BY_STEP, SAVED_BY_NUMBER = 1.2e-3, 1.6e-9
SAVED_BY_RUN = 0.6e-3  # that is no training's step, such as a sampler's: without an optimizer
SAVED_BY_OPERATION = 5e-6  # elsewhere than on a CPU, where launching them takes the time: a guess
FEWEST_STEPS = 500
"""Fewer are hardly ever worth it, and not worth a recording to find out."""

# Numbers that an evaluation computes, from which "auto" captures. On a CPU a compiled chunk saves a tenth of
# a nanosecond for each where products of matrices take the time (MNIST, dense nets), and two nanoseconds
# under a spline flow (10,000 data x 1,000 draws: half an hour for eight minutes); elsewhere the 5 ms of
# Python and Pyro that a chunk takes. A compilation takes 5 to 20 s.
WORTH_NUMBERS = {"cpu": 85e9}
WORTH_NUMBERS_ELSEWHERE = 2.7e12

# From how many numbers (draws times particles times those of the batch's largest tensor) "auto" compiles a
# map, which on a CPU saves 10 to 25 ns of each, and from how many draws a loop, which saves 1 to 2 ms of
# each, against 2 to 6 s of compilation (benchmarks/gradients.py). Elsewhere it is a guess.
WORTH_ELEMENTS = {"cpu": 2**29}
WORTH_ELEMENTS_ELSEWHERE = 2**35
WORTH_DRAWS = 4000


def can_compile(device: torch.device) -> bool:
    """Whether functions can be compiled for a device here."""
    return compiler() is not None if device.type == "cpu" else device.type != "mps"


def worth_trying(steps: int, device: torch.device) -> bool:
    """Whether so many steps of a training may repay a compilation, which can be done here."""
    return steps >= FEWEST_STEPS and can_compile(device)


def worth_capturing(recording: Recording, steps: int, device: torch.device) -> bool:
    """Whether so many steps of what was recorded repay the compilation: twice, since the first on a machine
    takes longer and both are estimates.
    """
    return _repaid(SAVED_BY_STEP, len(recording.entries), recording.numbers, steps, device)


def worth_runs(operations: int, numbers: int, runs: int, device: torch.device) -> bool:
    """Whether so many runs of programs, of so many operations and numbers each, repay it, likewise."""
    return _repaid(SAVED_BY_RUN, operations, numbers, runs, device) and can_compile(device)


def _repaid(by_run: float, operations: int, numbers: int, runs: int, device: torch.device) -> bool:
    by_work = SAVED_BY_NUMBER * numbers if device.type == "cpu" else SAVED_BY_OPERATION * operations
    saved = by_run + by_work
    return runs * saved >= 2 * (COMPILATION + COMPILATION_OF_ONE * operations)


def worth_numbers(numbers: float, device: torch.device) -> bool:
    """Whether the computation of so many numbers by an evaluation repays the compilation."""
    return numbers >= WORTH_NUMBERS.get(device.type, WORTH_NUMBERS_ELSEWHERE) and can_compile(device)


def worth_draws(draws: int, elements: int | None, device: torch.device) -> bool:
    """Whether so many draws of a gradient repay the compilation.

    Args:
        elements: of a map, the numbers in one term of a draw's log-weights; None for a loop.
    """
    enough = WORTH_DRAWS
    if elements is not None:
        enough = WORTH_ELEMENTS.get(device.type, WORTH_ELEMENTS_ELSEWHERE) // elements
    return draws >= enough and can_compile(device)
