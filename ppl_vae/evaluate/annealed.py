"""Annealed importance sampling over a data set, a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ppl_vae.capture.function import Capture
from ppl_vae.core.checks import check_count
from ppl_vae.core.pair import Pair
from ppl_vae.evaluate.batches import Data, datum_size
from ppl_vae.evaluate.loop import progress_bar
from ppl_vae.sampling.annealing import Annealing, gradient_runs, pilot_steps
from ppl_vae.sampling.bases import Start, base_of
from ppl_vae.sampling.gradients import Gradients
from ppl_vae.sampling.joint import Joint

_NUMBERS = 2**22  # of the largest tensor of all chains that go through the programs at once


def annealed(
    pair: Pair,
    source: Data,
    num_temperatures: int,
    num_chains: int,
    num_leapfrogs: int,
    start: Start,
    batch_size: int | None,
    progress: bool,
    capture: Capture,
) -> Tensor:
    """(N, K) log-weights of chains from the start to each datum's posterior, float64, on the host; run it
    within `isolation.questioning`.

    Raises:
        PairError: latents that the sampler cannot move; the site is named.
        CaptureError: with `capture=True`, for a pair that cannot be captured.
        ValueError: for a number that is not positive.
    """
    check_annealing(num_temperatures, num_chains, num_leapfrogs)
    if batch_size is not None:
        check_count("batch_size", batch_size)
    size = batch_size or rows_at_once(len(source), datum_size(source), num_chains)
    steps = (num_temperatures + pilot_steps(num_temperatures) + 1) * -(-len(source) // size)
    runs = gradient_runs(num_temperatures, num_leapfrogs) * (len(source) // size)
    gradients = Gradients(pair, capture, runs)
    found = []
    with progress_bar(steps, "log p(x), annealed", "temperatures", progress) as bar:
        for batch in source.batches(size):
            joint = Joint(pair, batch, 'log_likelihood(method="ais")')
            base = base_of(joint, start)
            run = Annealing(joint, base, gradients, num_temperatures, num_chains, num_leapfrogs, bar.update)
            found.append(run.forward().log_weight.T.cpu())
    return torch.cat(found)


def check_annealing(num_temperatures: int, num_chains: int, num_leapfrogs: int) -> None:
    """Raise ValueError unless these are positive whole numbers."""
    for name, value in (
        ("num_temperatures", num_temperatures),
        ("num_chains", num_chains),
        ("num_leapfrogs", num_leapfrogs),
    ):
        check_count(name, value)


def rows_at_once(num_data: int, numbers: int, num_chains: int) -> int:
    """How many data, of so many numbers each, go through the programs with all chains at once.

    In batches that are as alike as can be, since those of one size share a graph.
    """
    most = max(1, min(num_data, _NUMBERS // max(1, numbers * num_chains)))
    return max(1, math.ceil(num_data / math.ceil(num_data / most)))


def slices(count: int, size: int) -> Iterator[slice]:
    """Of `size` rows each, but the last."""
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))
