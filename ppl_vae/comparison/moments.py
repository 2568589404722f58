"""Moments of a stream of gradients, and what follows from them with jackknifed standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

GROUPS = 20
MEMORY = 2**27  # numbers that the groups may take together


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class Moments:
    """The sums of D gradients of P parameters, in G groups of draws that the jackknife leaves out in turn.

    Attributes:
        count: (G,) draws in each group.
        total: (G, P) their sum, float64.
        square: (G, P) the sum of their squares, float64.
    """

    count: Tensor
    total: Tensor
    square: Tensor

    @classmethod
    def empty(cls, num_parameters: int, num_draws: int, device: torch.device | str = "cpu") -> Moments:
        """No draws yet, of `num_draws` that will come."""
        groups = max(5, min(GROUPS, MEMORY // max(1, 16 * num_parameters)))
        shape = (min(groups, num_draws), num_parameters)
        total, square = (torch.zeros(shape, dtype=torch.float64, device=device) for _ in range(2))
        return cls(torch.zeros(shape[0], dtype=torch.float64, device=device), total, square)

    def add(self, gradients: Tensor, first: int) -> None:
        """Take in (c, P) gradients, the first of which is the `first`-th of all."""
        groups = (first + torch.arange(len(gradients), device=gradients.device)) % len(self.count)
        for group in groups.unique().tolist():
            chosen = gradients[groups == group].to(self.total)
            self.count[group] += len(chosen)
            self.total[group] += chosen.sum(0)
            self.square[group] += chosen.square().sum(0)

    def part(self, columns: slice) -> Moments:
        """The same of some of the parameters."""
        return Moments(self.count, self.total[:, columns], self.square[:, columns])

    @property
    def num_draws(self) -> int:
        """D."""
        return int(self.count.sum())

    @property
    def mean(self) -> Tensor:
        """(P,)."""
        return self.total.sum(0) / self.count.sum()

    @property
    def mean_variance(self) -> Tensor:
        """(P,): the squared standard error of `mean`."""
        return _variance(self.count.sum(), self.total.sum(0), self.square.sum(0)) / self.count.sum()

    def estimate(self, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Estimate:
        """A function of (count, mean, variance), () and (P,) each, and its jackknifed standard error."""
        count, total, square = self.count.sum(), self.total.sum(0), self.square.sum(0)
        value = function(count, total / count, _variance(count, total, square))
        groups = len(self.count)
        if groups < 2 or count - self.count.max() < 2:
            return Estimate(float(value), math.nan)
        without = []
        for group in range(groups):
            fewer, less = count - self.count[group], total - self.total[group]
            without.append(function(fewer, less / fewer, _variance(fewer, less, square - self.square[group])))
        each = torch.stack(without)
        error = ((groups - 1) / groups * (each - each.mean()).square().sum()).sqrt()
        return Estimate(float(value), float(error))

    def variance(self) -> Estimate:
        """The variance of one draw, mean over the parameters."""
        return self.estimate(lambda count, mean, variance: variance.mean())

    def signal(self) -> Estimate:
        """The squared mean gradient, mean over the parameters, without what the noise adds to it."""
        return self.estimate(lambda count, mean, variance: (mean.square() - variance / count).mean())

    def snr_squared(self) -> Estimate:
        r"""The squared signal-to-noise ratio, mean over the parameters that have noise, without bias.

        .. math:: \frac{1}{P} \sum_j \Bigl(\frac{\bar g_j^2}{s_j^2} - \frac{1}{D}\Bigr)

        It can come out below zero where there is no signal to be seen. nan where nothing varies.
        """

        def function(count: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
            noisy = variance > 0
            # for normal gradients E[1 / s^2] is larger than 1 / sigma^2 by this factor
            shrink = (count - 3) / (count - 1)
            return (shrink * mean.square()[noisy] / variance[noisy] - 1 / count).mean()

        return self.estimate(function)

    def snr_absolute(self) -> float:
        """Rainforth's ratio, |mean| / standard deviation, mean over the parameters;
        its floor is `snr_floor`.
        """

        def function(count: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
            noisy = variance > 0
            return (mean.abs()[noisy] / variance[noisy].sqrt()).mean()

        return self.estimate(function).value

    def distance(self, mean: Tensor, reference: Moments | None = None) -> Estimate:
        """The squared distance from `mean`, (P,), mean over the parameters, without what noise adds to it.

        Args:
            mean: what to compare with.
            reference: the draws that `mean` comes from; None where it is exact.
        """
        noise = torch.zeros_like(mean) if reference is None else reference.mean_variance

        def function(count: Tensor, own: Tensor, variance: Tensor) -> Tensor:
            return ((own - mean).square() - variance / count - noise).mean()

        value, error = self.estimate(function)
        if reference is not None:
            error = math.hypot(error, reference.distance(self.mean).standard_error)
        return Estimate(value, error)


def snr_floor(num_draws: int) -> float:
    """What `snr_absolute` shows, on average, where there is no signal at all."""
    return math.sqrt(2 / (math.pi * num_draws))


def _variance(count: Tensor, total: Tensor, square: Tensor) -> Tensor:
    return ((square - total.square() / count) / (count - 1)).clamp_min(0.0)
