"""Densities that are none: flat over all of space, and all in one point. What a deterministic code needs."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

_ROUNDING = 1e-3


class Flat(dist.TorchDistribution):
    r"""No prior at all: the same density everywhere, :math:`\log p(z) = 0`, which integrates to infinity.

    Nothing can be drawn from it. A program that has it must run all the same, for the shapes of its
    sites to be seen, and gets standard normal numbers for that; `pv.sample` and others that would
    show them refuse.

    Args:
        loc: (d,), any; its size, type and device are used.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector

    def __init__(self, loc: Tensor, validate_args: bool | None = None) -> None:
        self.loc = loc
        super().__init__(torch.Size(), loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Flat:
        new: Flat = self._get_checked_instance(Flat, _instance)
        new.loc = self.loc
        super(Flat, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Zeros, (*batch,) from (*batch, d)."""
        if self._validate_args:
            self._validate_sample(value)
        return value.new_zeros(torch.broadcast_shapes(value.shape[:-1], self.batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)


class PointMass(dist.Delta):
    """`pyro.distributions.Delta` over vectors, which knows its point again after rounding.

    The same net gives the same datum's point in another batch with another last digit, and a Delta's
    log-probability of that is minus infinity. Here it is 0 within a thousandth.

    Args:
        v: the point, (*batch, d).
        log_density: (*batch,), where it is a function of auxiliary draws: the density that theirs became.
    """

    def __init__(
        self, v: Tensor, log_density: Tensor | float = 0.0, validate_args: bool | None = None
    ) -> None:
        super().__init__(v, log_density, event_dim=1, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> PointMass:
        shape = torch.Size(batch_shape)
        return PointMass(self.v.expand(shape + self.event_shape), self.log_density.expand(shape))

    def log_prob(self, x: Tensor) -> Tensor:
        """`log_density` at the point and minus infinity elsewhere, (*batch,) from (*batch, d)."""
        near = ((x - self.v).abs() <= _ROUNDING * (1 + self.v.abs())).all(-1)
        return self.log_density.expand(near.shape).masked_fill(~near, -torch.inf)


def is_improper(fn: Any) -> bool:
    """Whether a distribution's density integrates to infinity, so that nothing can be drawn from it."""
    return isinstance(innermost(fn), Flat | dist.ImproperUniform)


def innermost(fn: Any) -> Any:
    """A distribution without what `to_event`, `expand` and `mask` put around it."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn
