"""Small statistics that the evaluations share."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def standard_error(values: Tensor) -> float:
    """The standard error of the mean of independent values, (N,); nan for a single one."""
    if len(values) < 2:
        return math.nan
    return float(values.double().std()) / math.sqrt(len(values))


class RunningMoments:
    """Mean and variance over data that come in batches, per element, in float64.

    Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance, 1983.

    >>> moments = RunningMoments()
    >>> for part in torch.arange(6.0).unsqueeze(-1).split(4):
    ...     moments.update(part)
    >>> moments.mean, moments.variance()
    (tensor([2.5000], dtype=torch.float64), tensor([3.5000], dtype=torch.float64))
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)

    def update(self, values: Tensor) -> None:
        """Take in a batch of values, (B, *event)."""
        values = values.cpu().double()
        mean = values.mean(0)
        delta, total = mean - self.mean, self.count + len(values)
        self._squares = self._squares + (values - mean).square().sum(0)
        self._squares = self._squares + delta.square() * (self.count * len(values) / total)
        self.mean = self.mean + delta * (len(values) / total)
        self.count = total

    def variance(self) -> Tensor:
        """The unbiased variance, (*event)."""
        return self._squares / (self.count - 1)
