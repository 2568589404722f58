"""What a captured step accepts: estimators and treatments of the KL term that are tensor work alone."""

from __future__ import annotations

from typing import Any

from pyro.infer import RenyiELBO
from torch import Tensor

from ppl_vae.capture.capture_error import CaptureError
from ppl_vae.core.sites import PairError
from ppl_vae.estimators import Renyi, ours
from ppl_vae.kl import Penalty


def equal_of(estimator: Any) -> Any:
    """Our equal of an estimator that turns tensors into numbers; the estimator itself elsewhere."""
    if type(estimator) is RenyiELBO:
        return Renyi(estimator.alpha, estimator.num_particles)
    return estimator


def check_objective(objective: Any, estimator: Any) -> None:
    """Raise CaptureError for an estimator or a penalty that no graph can stand for."""
    name = type(estimator).__name__
    if (own := ours(estimator)) is not None:
        if not own.fixed_size:
            raise CaptureError(f"estimators.{name} draws a random number of particles")
    elif not hasattr(estimator, "differentiable_loss"):
        raise CaptureError(f"{name} has no differentiable loss, but follows gradients of its own")
    for site, penalty in objective.penalties.items():
        if type(penalty).learn is not Penalty.learn:
            raise CaptureError(
                f"kl treatment {type(penalty).__name__} of site {site!r} has a training of its own after "
                "each step"
            )


def check_equality(given: Any, equal: Any, pair: Any, data: tuple[Tensor, ...]) -> None:
    """Raise CaptureError where `equal` does not do on this pair what `given` does."""
    if equal is given:
        return
    try:
        particles = equal.draw(pair.model, pair.guide, *data)
    except PairError as error:
        raise CaptureError(
            f"{type(given).__name__} can be captured where it equals our {type(equal).__name__}, but {error}"
        ) from error
    if particles.scale != 1.0 or particles.non_reparameterised:
        raise CaptureError(
            f"{type(given).__name__} equals our {type(equal).__name__}, which can be captured, only for "
            f"reparameterised guides and without subsampling"
        )
