"""The log-weights of an evaluation, chunk by chunk:
from a captured function where that repays its compilation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ppl_vae.capture.function import Capture, CapturedFunction, check_capture
from ppl_vae.capture.worth import worth_numbers
from ppl_vae.core.isolation import random_numbers
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.work import Work
from ppl_vae.evaluate.batches import Data
from ppl_vae.evaluate.loop import Batch, refuse_global_latents
from ppl_vae.sampling.point_mass import at_one_value

# Fewer data times particles are never worth it, and not worth counting
LEAST_DRAWS = 2**17
COUNTED_PARTICLES = 2


class LogWeights:
    """(k, B) log-weights of each chunk of a batch, with the same random numbers captured or not.

    A last, smaller batch, and under "auto" chunks of a size that is rare, run as written.

    Args:
        pair: in eval mode.
        data: the batches come from it.
        capture: "auto" captures what there is much work in. The work is counted and not timed, so that a
            result does not depend on the machine's mood.

    Raises:
        ValueError: for another `capture`.

    Attributes:
        at_one_value: (B,) of the last batch, see `point_mass.at_one_value`.
    """

    at_one_value: Tensor

    def __init__(self, pair: Pair, data: Data, capture: Capture) -> None:
        check_capture(capture)
        self.capture = capture
        self.data = data
        self.captured = CapturedFunction(self._computed, [pair], required=capture is True)
        self._batch_size = 0
        self._example: Batch | None = None
        self._per_draw = 0.0

    def chunks(self, batch: Batch) -> Iterator[Tensor]:
        """The log-weights of one chunk after the other.

        Raises:
            PairError: a pair that breaks the contract, or has latents outside the `data` plate.
            CaptureError: with `capture=True`, for a pair that cannot be captured.
        """
        self._example = batch
        self._batch_size = self._batch_size or len(batch)
        checked = False
        for size in batch.chunks:
            if self._worth(batch, size):
                if not checked:  # the data, as the caller has set it
                    with random_numbers(0, batch.pair.device):
                        self._look(batch.draw(1))
                part = self.captured(batch.tensors, size)[0]
            else:
                particles = batch.draw(size, check=not checked)
                refuse_global_latents(particles, "evaluate.log_likelihood")
                part = particles.log_weight
                if not checked:
                    self._look(particles)
            checked = True
            yield part
            batch.done(size)

    def _look(self, particles: Particles) -> None:
        certain = at_one_value(particles)
        if certain is None:
            certain = torch.zeros(particles.batch_size, dtype=torch.bool)
        self.at_one_value = certain.cpu()

    def _worth(self, batch: Batch, size: int) -> bool:
        if self.capture is False or len(batch) != self._batch_size:
            return False
        if self.capture is True:
            return True
        draws = batch.chunks.count(size) * size * (len(self.data) // self._batch_size) * self._batch_size
        if draws < LEAST_DRAWS:
            return False
        self._per_draw = self._per_draw or work_per_draw(batch)
        return worth_numbers(draws * self._per_draw, batch.pair.device)

    def _computed(self, tensors: Sequence[Tensor], size: int) -> list[Tensor]:
        assert self._example is not None
        particles = replace(self._example, tensors=tuple(tensors)).draw(size)
        refuse_global_latents(particles, "evaluate.log_likelihood")
        return [particles.log_weight]


def work_per_draw(batch: Batch) -> float:
    """Numbers computed for one particle of one datum, from a run of two of them."""
    with random_numbers(0, batch.pair.device):
        # a program may make what it keeps in its first run
        particles = batch.draw(COUNTED_PARTICLES)
        refuse_global_latents(particles, "evaluate.log_likelihood")
        with Work() as work:
            particles = batch.draw(COUNTED_PARTICLES, check=False)
            _ = particles.log_weight  # most of the densities are computed only here
    return work.numbers / (COUNTED_PARTICLES * len(batch))
