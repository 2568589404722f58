"""The density that chains move in, and its gradient: as written, or captured where that repays it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.capture.function import Capture, CapturedFunction, check_capture
from ppl_vae.capture.worth import worth_runs
from ppl_vae.core.isolation import random_numbers
from ppl_vae.core.pair import Pair
from ppl_vae.core.work import Work
from ppl_vae.sampling.bases import Base
from ppl_vae.sampling.joint import Joint, gradient_of


class Evaluated(NamedTuple):
    """What is known at the points of chains.

    Attributes:
        log_density: (K, B), -inf where it is no finite number.
        gradient: (K, B, D), of it.
        ratio: (K, B), of the joint density to the base's, nats; 0 where there is no base.
    """

    log_density: Tensor
    gradient: Tensor
    ratio: Tensor


Density = Callable[[Tensor, Tensor], Evaluated]
"""The density of one batch at points (K, B, D) and an inverse temperature, a tensor of no dims."""


class Gradients:
    r"""Densities of batches, whose graphs they share.

    .. math:: \log \pi_\beta(u) = \log q(u) + \beta \log \frac{p(x, u)}{q(u)}

    A batch of another size than the first, and beta = 0, where what is impossible counts for nothing, run as
    written. Captured or not the densities are the same to rounding, which long chains make visible: their
    draws are others then, of the same posterior.

    Args:
        pair: whose densities they are.
        capture: "auto" captures where so many runs repay that, by their number and the work in one.
        runs: how many there will be of batches of the first one's size.

    Raises:
        ValueError: for another `capture`.
        CaptureError: from the densities, with `capture=True`, for a pair that cannot be captured.
    """

    def __init__(self, pair: Pair, capture: Capture, runs: int) -> None:
        check_capture(capture)
        self._pair, self._capture, self._runs = pair, capture, runs
        self._captured = CapturedFunction(self._computed, [pair], required=capture is True)
        self._rows = 0
        self._worth: bool | None = None if capture == "auto" else bool(capture)
        self._now: tuple[Joint, Base | None]

    def of(self, joint: Joint, base: Base | None = None) -> Density:
        """The density of a batch; without a base the joint one, at every beta."""
        self._rows = self._rows or len(joint.batch[0])
        return partial(self._evaluated, joint, base)

    def _evaluated(self, joint: Joint, base: Base | None, points: Tensor, beta: Tensor) -> Evaluated:
        if not beta > 0:  # no likelihood at all is -inf, of which 0 times are none
            return evaluate(joint, base, points, None)
        beta = beta.to(points.device)
        if len(joint.batch[0]) != self._rows or not self._is_worth(joint, base, points, beta):
            return evaluate(joint, base, points, beta)
        self._now = joint, base
        state = () if base is None else base.state
        # what products of matrices give has strides of its own, and would get a graph of its own
        return Evaluated(*self._captured([points.contiguous(), beta, *state, *joint.batch]))

    def _is_worth(self, joint: Joint, base: Base | None, points: Tensor, beta: Tensor) -> bool:
        if self._worth is None:
            with random_numbers(0, self._pair.device), Work() as work:
                evaluate(joint, base, points, beta)
            self._worth = worth_runs(work.operations, work.numbers, self._runs, self._pair.device)
        return self._worth

    def _computed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        joint, base = self._now
        points, beta, *rest = tensors
        count = 0 if base is None else len(base.state)
        joint = joint.on(rest[count:])
        base = None if base is None else base.on(joint, rest[:count])
        return list(evaluate(joint, base, points, beta))


def evaluate(joint: Joint, base: Base | None, points: Tensor, beta: Tensor | None) -> Evaluated:
    """As it is written; at a beta of None the base alone."""
    ratio = points.new_zeros(points.shape[:2])

    def density(at: Tensor) -> Tensor:
        nonlocal ratio
        if base is None:
            return joint.log_density(at)
        start, ratio = base.parts(at)
        return start if beta is None else start + beta * ratio

    log_density, gradient = gradient_of(density, points)
    return Evaluated(log_density, gradient, ratio.detach().masked_fill(ratio.isnan(), -torch.inf))
