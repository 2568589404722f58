"""KLPlan: the treatments of all latent sites through one training."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyro.infer import ELBO as PyroELBO

from ppl_vae.core.particles import Particles
from ppl_vae.estimators import ours
from ppl_vae.kl.beta import Beta
from ppl_vae.kl.treatment import HasPenalty, InSteps, KLPenalty, KLWeight, Penalty

KL = float | KLWeight | Mapping[str, float | KLWeight]
"""One weight or treatment of the KL term for all latent sites, or these by site."""


class KLPlan:
    """What is done to the KL term of each latent site through a training.

    Args:
        kl: one weight or treatment for all latent sites, or these by site name; sites left out keep
            weight 1.
        sites: the pair's latent sites.
        auxiliary: the sites that the guide draws for itself, whose densities belong to those of the latents:
            one weight for all latents is theirs too.
        epochs: how long the training will be, to warn of a warm-up that outlasts it.
        steps_per_epoch: gradient steps in an epoch, for the treatments that count in steps.
        beside: what else is added to the loss, by observed site.

    Raises:
        ValueError: when a named site is not a latent site of the pair, a weight is neither a number nor a
            treatment, or sites are named beside auxiliary ones.

    Attributes:
        by_site: the treatment of each latent site.
        beside: the treatment of each observed site.
        penalties: what is added to the loss, by site; filled by `make_penalties`.
    """

    def __init__(
        self,
        kl: KL,
        sites: tuple[str, ...],
        epochs: float,
        steps_per_epoch: float = 1.0,
        auxiliary: tuple[str, ...] = (),
        beside: Mapping[str, HasPenalty] | None = None,
    ) -> None:
        by_site = dict(kl) if isinstance(kl, Mapping) else dict.fromkeys(sites, kl)
        if not by_site and isinstance(kl, Mapping):
            raise ValueError(f"kl={kl!r} names no site: the pair's latent sites are {list(sites)}")
        unknown = sorted(set(by_site) - set(sites), key=str)
        if unknown:
            raise ValueError(f"kl names {unknown}, but the pair's latent sites are {list(sites)}")
        self.by_site: dict[str, KLWeight] = {
            site: _in_epochs(weight, steps_per_epoch) for site, weight in by_site.items()
        }
        if auxiliary and isinstance(kl, Mapping):
            raise ValueError(
                f"kl names {sorted(by_site)}, but the guide makes its latents of the auxiliary sites "
                f"{list(auxiliary)}, so that only all terms together are a KL: give one weight for "
                "all, kl=..."
            )
        for name in auxiliary:
            self.by_site[name] = WeightOf(next(iter(self.by_site.values())))
        self.beside = dict(beside or {})
        self.penalties: dict[str, Penalty] = {}
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
        """Whether some site has a penalty, or a weight that is not 1 throughout."""
        changed = any(weight not in (Beta(1.0), WeightOf(Beta(1.0))) for weight in self.by_site.values())
        return bool(self.beside) or changed

    def at(self, epoch: float) -> dict[str, float]:
        """The weight of each site at a point of training."""
        return {site: weight.at(epoch) for site, weight in self.by_site.items()}

    def check(self, estimator: PyroELBO) -> None:
        """Refuse what the estimator has no place for.

        Raises:
            ValueError: naming the site, the reason and the estimators that have a place for its treatment.
        """
        for site, weight in self.by_site.items():
            _check_estimator(site, weight, estimator)
        for site, treatment in self.beside.items():
            if reason := _no_place_for_penalty(estimator):
                raise ValueError(
                    f"penalties={treatment!r} for site {site!r}: {type(estimator).__name__} {reason}. Use "
                    f"estimators.ELBO or estimators.MeanFieldELBO"
                )

    def make_penalties(self, example: Particles, data_size: int) -> None:
        """Fill `penalties`.

        Args:
            example: particles of the pair.
            data_size: N, the number of training data.

        Raises:
            PairError: for a site that its treatment does not fit.
        """
        self.penalties = {
            site: treatment.penalty(site, example, data_size)
            for site, treatment in (self.by_site | self.beside).items()
            if isinstance(treatment, HasPenalty)
        }

    def set_epoch(self, epoch: float) -> None:
        """Move the penalties to a point of training."""
        for penalty in self.penalties.values():
            penalty.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """What the penalties have learned, by site."""
        return {site: penalty.state_dict() for site, penalty in self.penalties.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` gave.

        Raises:
            RuntimeError, KeyError: for the state of other penalties.
        """
        for site, penalty in self.penalties.items():
            penalty.load_state_dict(state[site])


@dataclass(frozen=True)
class WeightOf(KLWeight):
    """The weight of a treatment, without the penalty that it may have beside."""

    treatment: KLWeight

    def at(self, epoch: float) -> float:
        return self.treatment.at(epoch)

    def ends(self) -> float:
        return self.treatment.ends()


def _in_epochs(weight: Any, steps_per_epoch: float) -> KLWeight:
    if isinstance(weight, type) or not isinstance(weight, KLWeight):
        if isinstance(weight, bool) or not isinstance(weight, numbers.Real):
            made = " (make an object of it)" if isinstance(weight, type) else ""
            raise ValueError(
                "kl must be a weight, a treatment such as kl.LinearWarmup(epochs=10), or these by latent "
                f"site, got {weight!r}{made}"
            )
        return Beta(float(weight))
    return weight.in_epochs(steps_per_epoch) if isinstance(weight, InSteps) else weight


def _check_estimator(site: str, weight: KLWeight, estimator: PyroELBO) -> None:
    name = type(estimator).__name__
    always_one = weight.ends() == 0 and weight.at(0.0) == 1.0
    reason = ""
    own = ours(estimator)
    if not always_one and (own is None or not own.takes_kl_weight):
        reason = (
            "has no KL term to weigh apart, and weighing inside its log-weights would not be the bound with "
            "that weight"
        )
    elif isinstance(weight, KLPenalty):
        reason = _no_place_for_penalty(estimator)
    if reason:
        raise ValueError(
            f"kl={weight!r} for site {site!r}: {name} {reason}. Use estimators.ELBO or "
            f"estimators.MeanFieldELBO"
        )


def _no_place_for_penalty(estimator: PyroELBO) -> str:
    """Why a penalty cannot be added to an estimator's loss; empty where it can."""
    own = ours(estimator)
    if own is None:
        return "is Pyro's, and gives no particles to read the penalty from"
    if own.separates:
        return "cuts the draws from the guide, so that a penalty on them would not reach it"
    if own.facts.bound == "upper":
        return "is an upper bound, from which a penalty cannot be taken"
    if own.facts.guide_follows != "the bound":
        return f"trains the guide on another objective ({own.facts.guide_follows}) than the bound"
    return ""
