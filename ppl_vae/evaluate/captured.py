"""The log-weights of an evaluation, chunk by chunk: from a captured function where that repays its compilation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ppl_vae.capture.function import Capture, CapturedFunction, can_compile, check_capture
from ppl_vae.evaluate.batches import Data, datum_size
from ppl_vae.evaluate.loop import Batch, refuse_global_latents
from ppl_vae.isolation import random_numbers
from ppl_vae.pair import Pair

# Numbers of data times particles times elements of a datum from which "auto" captures. On a CPU a compiled
# chunk saves about 1 ns for each; elsewhere the 5 ms of Python and Pyro that a chunk takes. A compilation
# takes 5 to 20 s.
WORTH = {"cpu": 2**33}
WORTH_ELSEWHERE = 2**38


class LogWeights:
    """(k, B) log-weights of each chunk of a batch, with the same random numbers captured or not.

    A last, smaller batch, and under "auto" chunks of a size that is rare, run as written.

    Args:
        pair: in eval mode.
        data: the batches come from it.
        capture: "auto" captures what there is much of, a count and no time, so that a result does
            not depend on the machine's mood.

    Raises:
        ValueError: for another `capture`.
    """

    def __init__(self, pair: Pair, data: Data, capture: Capture) -> None:
        check_capture(capture)
        self.capture = capture
        self.data = data
        self.captured = CapturedFunction(self._computed, [pair], required=capture is True)
        self._batch_size = 0
        self._example: Batch | None = None

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
                        batch.draw(1)
                part = self.captured(batch.tensors, size)[0]
            else:
                particles = batch.draw(size, check=not checked)
                refuse_global_latents(particles, "evaluate.log_likelihood")
                part = particles.log_weight
            checked = True
            yield part
            batch.done(size)

    def _worth(self, batch: Batch, size: int) -> bool:
        if self.capture is False or len(batch) != self._batch_size:
            return False
        if self.capture is True:
            return True
        elements = datum_size(self.data) * batch.chunks.count(size) * size
        elements *= len(self.data) // self._batch_size * self._batch_size
        return worth_capturing(elements, batch.pair.device)

    def _computed(self, tensors: Sequence[Tensor], size: int) -> list[Tensor]:
        assert self._example is not None
        particles = replace(self._example, tensors=tuple(tensors)).draw(size)
        refuse_global_latents(particles, "evaluate.log_likelihood")
        return [particles.log_weight]


def worth_capturing(elements: int, device: torch.device) -> bool:
    """Whether so many data times particles times elements of a datum repay the compilation."""
    return elements >= WORTH.get(device.type, WORTH_ELSEWHERE) and can_compile(device)
