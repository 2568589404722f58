"""Capacity: the KL term is held at a value that rises while training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ppl_vae.core.particles import Particles
from ppl_vae.kl.divergence import refuse_unknown_gradient
from ppl_vae.kl.treatment import KLPenalty, Penalty, check_number


@dataclass(frozen=True)
class Capacity(KLPenalty):
    r"""The KL term is drawn to a capacity C(t) that rises in a straight line from 0 to a target.

    .. math:: \log p(x \mid z) - \gamma \Bigl| \tfrac1B \sum_i \mathrm{KL}(x_i) - C(t) \Bigr|, \qquad
        C(t) = \mathrm{target} \cdot \min(t / \mathrm{duration}, 1)

    Args:
        target: C at the end, in nats, of each site that is treated so.
        steps: the rise's duration in gradient steps. Give either this or `epochs`.
        epochs: the same in epochs.
        gamma: the price of a nat's distance from C.

    Raises:
        ValueError: for a negative target or gamma, or other than exactly one positive duration.
        PairError: in training, for a site outside the `data` plate, or whose KL has no pathwise gradient.

    Burgess et al., Understanding disentangling in beta-VAE, arXiv:1804.03599; its gamma is 1,000.
    """

    target: float
    steps: float | None = None
    epochs: float | None = None
    gamma: float = 1000.0

    def __post_init__(self) -> None:
        check_number("target", self.target)
        check_number("gamma", self.gamma)
        given = [duration for duration in (self.steps, self.epochs) if duration is not None]
        if len(given) != 1 or not given[0] > 0:
            raise ValueError(
                f"Capacity needs either steps or epochs, a positive number, got steps={self.steps!r} and "
                f"epochs={self.epochs!r}"
            )

    def in_epochs(self, steps_per_epoch: float) -> Capacity:
        """The same with the duration in epochs."""
        if self.steps is None:
            return self
        return replace(self, steps=None, epochs=self.steps / steps_per_epoch)

    def capacity(self, epoch: float) -> float:
        """C at a point of training, in nats; the duration must be in epochs."""
        return self.target * min(epoch / self.ends(), 1.0)

    def at(self, epoch: float) -> float:
        return 0.0

    def ends(self) -> float:
        if self.epochs is None:
            raise ValueError(
                "how many epochs `steps` are depends on the data: ask in_epochs(steps_per_epoch)"
            )
        return self.epochs

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        refuse_unknown_gradient("Capacity", site, example)
        return CapacityPenalty(self, site, example.reconstruction)


class CapacityPenalty(Penalty):
    """What `Capacity` puts in place of the site's KL term."""

    capacity: Tensor

    def __init__(self, treatment: Capacity, site: str, like: Tensor) -> None:
        super().__init__()
        self.treatment = treatment
        self.site = site
        # a tensor, so that a captured step sees it move
        self.register_buffer("capacity", torch.zeros_like(like[0, 0]))

    def set_epoch(self, epoch: float) -> None:
        self.capacity.fill_(self.treatment.capacity(epoch))

    def forward(self, particles: Particles) -> Tensor:
        return self.treatment.gamma * (particles.kl(self.site).mean() - self.capacity).abs()
