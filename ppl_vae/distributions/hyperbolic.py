"""Hyperbolic space as a ball: a normal distribution of its tangent space, wrapped around a point."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.distributions.ball import Wrapping


class WrappedNormal(dist.TransformedDistribution):
    r"""A normal distribution of tangent vectors, wrapped around a point of hyperbolic space.

    .. math:: z = \exp_\mu(v), \qquad v \sim \mathcal{N}\bigl(0, \mathrm{diag}(\sigma)^2\bigr)

    The space is the Poincare ball of curvature -c, and v is taken from the origin to mu along their line, in
    units of the space's own length: how far z is from mu is how long v is. The density is that of the ball's
    coordinates (Lebesgue's), so that ratios are those of any measure. As on the sphere, `mean` is the middle
    of the space's own geometry, mu.

    Args:
        loc: mu, (*batch, d), inside the ball.
        scale: sigma, (*batch, d), positive.
        curvature: c.

    Nagano et al., A Wrapped Normal Distribution on Hyperbolic Space for Gradient-Based Learning,
    arXiv:1902.02992; Mathieu et al., Continuous Hierarchical Representations with Poincare Variational
    Auto-Encoders, arXiv:1901.06033.

    >>> q = WrappedNormal(torch.tensor([0.5, 0.0]), torch.full((2,), 0.1))
    >>> q.mean, q.rsample((5,)).norm(dim=-1).max() < 1
    (tensor([0.5000, 0.0000]), tensor(True))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}  # none by which a family could be moved along

    def __init__(
        self, loc: Tensor, scale: Tensor, curvature: float = 1.0, validate_args: bool | None = None
    ) -> None:
        loc, scale = torch.broadcast_tensors(loc, scale)
        self.loc, self.scale, self.curvature = loc, scale, curvature
        tangent = dist.Normal(torch.zeros_like(loc), scale, validate_args=validate_args).to_event(1)
        super().__init__(tangent, [Wrapping(loc, curvature, cache_size=1)], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> WrappedNormal:
        """The same distributions for a larger batch shape."""
        shape = torch.Size(batch_shape) + self.event_shape
        return WrappedNormal(self.loc.expand(shape), self.scale.expand(shape), self.curvature, False)

    def log_prob(self, value: Tensor) -> Tensor:
        """(*batch,) nats; minus infinity outside the ball, such as at draws of a space of less curvature."""
        # the way back puts what is outside onto the edge, where there is a density
        inside: Tensor = super().log_prob(value)
        return inside.masked_fill(~self.support.check(value), -math.inf)

    @property
    def mean(self) -> Tensor:
        """mu, (*batch, d)."""
        return self.loc
