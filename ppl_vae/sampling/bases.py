"""Bases: normalised densities of u at which annealing begins, the guide's, its moments' or the prior's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from ppl_vae.core.sites import PairError
from ppl_vae.sampling.joint import Joint
from ppl_vae.sampling.metric import Metric, metric_of

Start = Literal["guide", "moments", "prior"]

_MOST_CORRELATED = 64  # from how many dims on the moments are standard deviations alone


class Base(Protocol):
    """What annealing begins at."""

    @property
    def name(self) -> str:
        """Which of the three it is."""
        ...

    @property
    def state(self) -> tuple[Tensor, ...]:
        """The tensors that it keeps for its batch."""
        ...

    def on(self, joint: Joint, state: Sequence[Tensor]) -> Base:
        """The same of another batch of the same shapes."""
        ...

    def draw(self, count: int) -> Tensor:
        """(count, B, D)."""
        ...

    def parts(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(K, B) each: the base's log-density, and what is to be added to reach the joint density."""
        ...


@dataclass(frozen=True)
class GuideBase:
    """The guide's own density."""

    joint: Joint
    name: str = "guide"
    state: tuple[Tensor, ...] = ()

    def on(self, joint: Joint, state: Sequence[Tensor]) -> GuideBase:
        return GuideBase(joint)

    def draw(self, count: int) -> Tensor:
        return self.joint.guide_draws(count)

    def parts(self, points: Tensor) -> tuple[Tensor, Tensor]:
        base, density = self.joint.log_guide_and_density(points)
        return base, density - base


@dataclass(frozen=True)
class NormalBase:
    """A normal density with the mean and the covariance of the guide's draws."""

    joint: Joint
    mean: Tensor
    metric: Metric
    name: str = "moments"

    @property
    def state(self) -> tuple[Tensor, ...]:
        return self.mean, self.metric.scale

    def on(self, joint: Joint, state: Sequence[Tensor]) -> NormalBase:
        mean, scale = state
        return NormalBase(joint, mean, Metric(scale))

    def draw(self, count: int) -> Tensor:
        white = torch.randn(count, *self.mean.shape).to(self.mean)
        return self.mean + self.metric.from_white(white)

    def parts(self, points: Tensor) -> tuple[Tensor, Tensor]:
        scale, centred = self.metric.scale, points - self.mean
        if scale.dim() == 2:
            white, volume = centred / scale, scale.log().sum(-1)
        else:
            white = torch.linalg.solve_triangular(scale, centred.unsqueeze(-1), upper=False).squeeze(-1)
            volume = scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        size = points.shape[-1]
        base = -white.square().sum(-1) / 2 - volume - size / 2 * math.log(2 * math.pi)
        return base, self.joint.log_density(points) - base


@dataclass(frozen=True)
class PriorBase:
    """The model's prior, from which the likelihood is heated up."""

    joint: Joint
    name: str = "prior"
    state: tuple[Tensor, ...] = ()

    def on(self, joint: Joint, state: Sequence[Tensor]) -> PriorBase:
        return PriorBase(joint)

    def draw(self, count: int) -> Tensor:
        return self.joint.prior_draws(count)

    def parts(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return self.joint.log_parts(points)


def moments(joint: Joint) -> tuple[Tensor, Metric]:
    """(B, D) mean and the metric of the guide's draws."""
    full = joint.size <= _MOST_CORRELATED
    draws = joint.guide_draws(max(200, 10 * joint.size) if full else 200)
    return draws.mean(0), metric_of(draws, full)


def base_of(joint: Joint, start: Start) -> Base:
    """The base that is asked for; "guide" gives the moments of a guide whose density is not at hand.

    Raises:
        PairError: for the prior of a model with finite sites, which are summed over.
        ValueError: for another start.
    """
    if start == "prior":
        if joint.summed:
            raise PairError(
                f"{joint.what}: from the prior the likelihood alone is heated up, and it is not separate "
                f"where the finite sites {list(joint.summed)} are summed over: start='guide'"
            )
        return PriorBase(joint)
    if start == "guide" and _has_density(joint):
        return GuideBase(joint)
    if start in ("guide", "moments"):
        return NormalBase(joint, *moments(joint))
    raise ValueError(f"start must be 'guide', 'moments' or 'prior', got {start!r}")


def _has_density(joint: Joint) -> bool:
    """Whether the guide's density and its gradient can be had away from its own draws."""
    try:
        with torch.enable_grad():
            points = joint.guide_draws(2).detach() + 0.0
            points = (points + 1e-2).requires_grad_()
            value, _ = joint.log_guide_and_density(points)
            (gradient,) = torch.autograd.grad(value.sum(), points)
    except Exception:
        # a flow without an inverse, a point mass, an autoguide: each has its own words
        return False
    return bool(value.isfinite().all()) and bool(gradient.isfinite().all())
