"""Warm-ups: a weight on the KL term that rises while training, once or in cycles."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ppl_vae.core.checks import check_count
from ppl_vae.kl.treatment import KLWeight, check_epochs, check_weight


@dataclass(frozen=True)
class LinearWarmup(KLWeight):
    r"""A weight that rises in a straight line from `start` to `weight` over the first `epochs` epochs.

    .. math:: \beta(t) = \mathrm{start} + (\mathrm{weight} - \mathrm{start}) \min(t / \mathrm{epochs}, 1)

    Bowman et al., Generating Sentences from a Continuous Space, arXiv:1511.06349;
    Sonderby et al., Ladder Variational Autoencoders, arXiv:1602.02282.

    Args:
        epochs: how long the rise takes.
        weight: the last weight.
        start: the first weight.

    Raises:
        ValueError: when a weight is negative or `epochs` is not positive.

    >>> [LinearWarmup(epochs=10).at(epoch) for epoch in (0, 5, 20)]
    [0.0, 0.5, 1.0]
    """

    epochs: float
    weight: float = 1.0
    start: float = 0.0

    def __post_init__(self) -> None:
        _check(self.epochs, self.weight, self.start)

    def at(self, epoch: float) -> float:
        return _between(self.start, self.weight, min(epoch / self.epochs, 1.0))

    def ends(self) -> float:
        return self.epochs


@dataclass(frozen=True)
class CosineWarmup(KLWeight):
    r"""A weight that rises along half a cosine from `start` to `weight`, slowly at both ends.

    .. math:: \beta(t) = \mathrm{start} + (\mathrm{weight} - \mathrm{start})
        \tfrac12 \bigl(1 - \cos(\pi \min(t / \mathrm{epochs}, 1))\bigr)

    Fu et al., Cyclical Annealing Schedule, arXiv:1903.10145, compares the shapes.

    Args:
        epochs: how long the rise takes.
        weight: the last weight.
        start: the first weight.

    Raises:
        ValueError: when a weight is negative or `epochs` is not positive.
    """

    epochs: float
    weight: float = 1.0
    start: float = 0.0

    def __post_init__(self) -> None:
        _check(self.epochs, self.weight, self.start)

    def at(self, epoch: float) -> float:
        risen = (1 - math.cos(math.pi * min(epoch / self.epochs, 1.0))) / 2
        return _between(self.start, self.weight, risen)

    def ends(self) -> float:
        return self.epochs


@dataclass(frozen=True)
class SigmoidWarmup(KLWeight):
    r"""A weight that rises along a logistic curve, stretched so that it begins at `start` and ends at
    `weight`.

    .. math:: \beta(t) = \mathrm{start} + (\mathrm{weight} - \mathrm{start})
        \tfrac12 \left(1 + \frac{\tanh\bigl(s (\tau - \tfrac12) / 2\bigr)}{\tanh(s / 4)}\right),
        \qquad \tau = \min(t / \mathrm{epochs}, 1)

    Bowman et al., Generating Sentences from a Continuous Space, arXiv:1511.06349.

    Args:
        epochs: how long the rise takes.
        weight: the last weight.
        start: the first weight.
        steepness: s, the logistic function's argument runs from -s/2 to s/2.

    Raises:
        ValueError: when a weight is negative, or `epochs` or `steepness` is not positive.
    """

    epochs: float
    weight: float = 1.0
    start: float = 0.0
    steepness: float = 10.0

    def __post_init__(self) -> None:
        _check(self.epochs, self.weight, self.start)
        if not 0 < self.steepness < float("inf"):
            raise ValueError(f"the steepness of a warm-up must be positive, got {self.steepness}")

    def at(self, epoch: float) -> float:
        centred = min(epoch / self.epochs, 1.0) - 0.5
        risen = (1 + math.tanh(self.steepness * centred / 2) / math.tanh(self.steepness / 4)) / 2
        return _between(self.start, self.weight, risen)

    def ends(self) -> float:
        return self.epochs


@dataclass(frozen=True)
class CyclicWarmup(KLWeight):
    r"""A weight that rises anew in each of several cycles, and keeps its last value after them.

    .. math:: \beta(t) = \mathrm{start} + (\mathrm{weight} - \mathrm{start}) \min(\tau / R, 1), \qquad
        \tau = \frac{t \bmod (\mathrm{epochs} / M)}{\mathrm{epochs} / M}

    Fu et al., Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing,
    arXiv:1903.10145.

    Args:
        epochs: how long all cycles take together.
        cycles: M, how many there are.
        ratio: R, the share of a cycle in which the weight rises; it is constant in the rest.
        weight: the weight at the end of a rise.
        start: the weight at the beginning of a rise.

    Raises:
        ValueError: when a weight is negative, `epochs` is not positive, `cycles` is not a positive
            whole number, or `ratio` is not in (0, 1].

    >>> [CyclicWarmup(epochs=40, cycles=2).at(epoch) for epoch in (0, 5, 10, 20, 25, 99)]
    [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]
    """

    epochs: float
    cycles: int = 4
    ratio: float = 0.5
    weight: float = 1.0
    start: float = 0.0

    def __post_init__(self) -> None:
        _check(self.epochs, self.weight, self.start)
        check_count("cycles", self.cycles)
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio, the share of a cycle that rises, must be in (0, 1], got {self.ratio!r}")

    def at(self, epoch: float) -> float:
        if epoch >= self.ends():
            return self.weight
        cycle = self.epochs / self.cycles
        return _between(self.start, self.weight, min(epoch % cycle / cycle / self.ratio, 1.0))

    def ends(self) -> float:
        return self.epochs * (1 - (1 - self.ratio) / self.cycles)


def _between(start: float, weight: float, risen: float) -> float:
    return start + (weight - start) * risen


def _check(epochs: float, weight: float, start: float) -> None:
    check_weight(weight)
    check_weight(start)
    check_epochs(epochs)
