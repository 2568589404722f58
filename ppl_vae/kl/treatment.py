"""What a treatment of the KL term is: a weight through the training and, for some, a penalty beside it."""

from __future__ import annotations

import numbers
from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from ppl_vae.core.particles import Particles


@runtime_checkable
class KLWeight(Protocol):
    """The factor beta on a KL term as a function of training time."""

    def at(self, epoch: float) -> float:
        """The factor at `epoch` epochs of training, a fraction allowed."""

    def ends(self) -> float:
        """The epoch after which nothing changes any more."""


@runtime_checkable
class InSteps(KLWeight, Protocol):
    """A factor whose duration may be given in steps, which become epochs when the data are known."""

    def in_epochs(self, steps_per_epoch: float) -> KLWeight:
        """The same with the duration in epochs."""


class Penalty(nn.Module):
    """What a treatment adds to the loss of one latent site; its state is saved with the training's."""

    @abstractmethod
    def forward(self, particles: Particles) -> Tensor:
        """Scalar, nats per datum: what is added to the loss of the particles' batch."""

    def set_epoch(self, epoch: float) -> None:
        """Move what changes with time, in place, to `epoch` epochs of training."""

    def learn(self, all_reduce: Any = None) -> None:
        """Train what the penalty itself learns, after each of the pair's steps.

        Args:
            all_reduce: averages a tensor over the processes of a training on several devices.
        """


@runtime_checkable
class HasPenalty(Protocol):
    """A treatment of one site that adds to the loss."""

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        """The penalty of one site: a latent one for a treatment of its KL term, or an observed one.

        Args:
            site: the site's name.
            example: particles of the pair that is to be trained.
            data_size: N, the number of training data.

        Raises:
            PairError: for a site that the treatment does not fit.
        """


@runtime_checkable
class KLPenalty(KLWeight, HasPenalty, Protocol):
    """A treatment that puts a penalty beside the weighted KL term."""


def check_weight(weight: float) -> None:
    """Raise ValueError unless a KL weight is finite and not negative."""
    if not _is_number(weight) or not 0 <= weight < float("inf"):
        raise ValueError(f"a KL weight must be a number >= 0, got {weight!r}")


def check_number(name: str, value: float, *, above: float = 0.0) -> None:
    """Raise ValueError unless a treatment's number is finite and not below `above`."""
    if not _is_number(value) or not above <= value < float("inf"):
        raise ValueError(f"{name} must be a finite number >= {above:g}, got {value!r}")


def check_epochs(epochs: float) -> None:
    """Raise ValueError unless a duration is a positive number of epochs."""
    if not _is_number(epochs) or not 0 < epochs < float("inf"):
        raise ValueError(f"a warm-up needs a positive number of epochs, got {epochs!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
