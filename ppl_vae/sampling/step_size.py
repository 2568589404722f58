"""The search for each datum's step size in a pilot run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_FARTHEST = 20.0  # of the logarithm: a guide may be as many times too wide or too narrow, e^20


@dataclass(frozen=True)
class StepSize:
    """The search for each datum's step size in a pilot run, by dual averaging of its logarithm.

    Hoffman and Gelman, The No-U-Turn Sampler, arXiv:1111.4246, section 3.2, with the acceptance averaged over
    the chains of a datum.

    Attributes:
        target: the acceptance to reach.
        log_step: (B,), to try next.
        average: (B,), the answer so far.
    """

    target: float
    centre: Tensor
    log_step: Tensor
    average: Tensor
    error: Tensor
    count: int = 0

    @classmethod
    def begin(cls, target: float, first: float, data: int, like: Tensor) -> StepSize:
        """A search from one size for all."""
        log_step = torch.full((data,), math.log(first), dtype=torch.float64, device=like.device)
        return cls(target, log_step + math.log(2), log_step, log_step, torch.zeros_like(log_step))

    def after(self, acceptance: Tensor) -> StepSize:
        """The search one step later, (K, B) acceptance probabilities at hand."""
        count = self.count + 1
        seen = acceptance.double().mean(0)
        weight = 1 / (count + 10)
        error = (1 - weight) * self.error + weight * (self.target - seen)
        log_step = (self.centre - math.sqrt(count) / 0.1 * error).clamp(-_FARTHEST, _FARTHEST)
        forget = count**-0.75
        average = forget * log_step + (1 - forget) * self.average
        return replace(self, log_step=log_step, average=average, error=error, count=count)

    @property
    def current(self) -> Tensor:
        """(B,), to try next."""
        return self.log_step.exp()

    @property
    def result(self) -> Tensor:
        """(B,), to be frozen."""
        return self.average.exp()


def first_step_size(size: int) -> float:
    """Where a search begins: the scaling of the optimal step with the dimension D of a normal target."""
    return 1.0 / max(size, 1) ** 0.25
