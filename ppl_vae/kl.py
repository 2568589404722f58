"""What is done to the KL term in training: weights and warm-ups, by latent site, apart from the estimator."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class KLWeight(Protocol):
    """The factor beta on a KL term as a function of training time."""

    def at(self, epoch: float) -> float:
        """The factor at `epoch` epochs of training, a fraction allowed."""

    def ends(self) -> float:
        """The epoch after which the factor no longer changes."""


@dataclass(frozen=True)
class Beta:
    r"""A constant weight on the KL term, the beta-VAE's objective.

    .. math:: \log p(x \mid z) - \beta \, \mathrm{KL}(q \,\|\, p)

    Raises:
        ValueError: when the weight is negative.

    Higgins et al., beta-VAE, ICLR 2017.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weight(self.weight)

    def at(self, epoch: float) -> float:
        return self.weight

    def ends(self) -> float:
        return 0.0


@dataclass(frozen=True)
class LinearWarmup:
    r"""A weight that rises in a straight line from `start` to `weight` over the first `epochs` epochs.

    Bowman et al., Generating Sentences from a Continuous Space, arXiv:1511.06349;
    Sonderby et al., Ladder Variational Autoencoders, arXiv:1602.02282.

    Raises:
        ValueError: when a weight is negative or `epochs` is not positive.
    """

    epochs: float
    weight: float = 1.0
    start: float = 0.0

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        _check_weight(self.start)
        if not self.epochs > 0:
            raise ValueError(f"a warm-up needs a positive number of epochs, got {self.epochs}")

    def at(self, epoch: float) -> float:
        return self.start + (self.weight - self.start) * min(epoch / self.epochs, 1.0)

    def ends(self) -> float:
        return self.epochs


KL = float | KLWeight | Mapping[str, float | KLWeight]


class KLSchedule:
    """The weights of all latent sites through a training.

    Args:
        kl: one weight for all latent sites, or weights by site name; sites left out keep weight 1.
        sites: the pair's latent sites.
        epochs: how long the training will be, to warn of a warm-up that outlasts it.

    Raises:
        ValueError: when a named site is not a latent site of the pair.
    """

    def __init__(self, kl: KL, sites: tuple[str, ...], epochs: float) -> None:
        by_site = dict(kl) if isinstance(kl, Mapping) else dict.fromkeys(sites, kl)
        unknown = sorted(set(by_site) - set(sites))
        if unknown:
            raise ValueError(f"kl names {unknown}, but the pair's latent sites are {list(sites)}")
        self.by_site: dict[str, KLWeight] = {
            site: weight if isinstance(weight, KLWeight) else Beta(float(weight))
            for site, weight in by_site.items()
        }
        late = {site: weight.ends() for site, weight in self.by_site.items() if weight.ends() > epochs}
        if late:
            warnings.warn(
                f"training ends after {epochs:g} epochs, before the KL warm-up does: {late}. The pair is "
                f"never trained on its full objective; shorten the warm-up or train longer",
                UserWarning,
                stacklevel=3,
            )

    @property
    def changes_anything(self) -> bool:
        """Whether some weight is not 1 throughout."""
        return any(weight != Beta(1.0) for weight in self.by_site.values())

    def at(self, epoch: float) -> dict[str, float]:
        """The weight of each site at a point of training."""
        return {site: weight.at(epoch) for site, weight in self.by_site.items()}


def _check_weight(weight: float) -> None:
    if not 0 <= weight < float("inf"):
        raise ValueError(f"a KL weight must be a number >= 0, got {weight}")
