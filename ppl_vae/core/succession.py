"""Succession: distributions of an event whose parts come one after the other, each given those before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor
from torch.distributions import Independent, LowRankMultivariateNormal, MultivariateNormal, Normal


@runtime_checkable
class HasFollowing(Protocol):
    """A distribution of an event (T, ...) that gives the distributions of its parts itself."""

    def following(self, before: Tensor) -> Any:
        """The part after `before`, (\\*batch, t, ...): of its batch shape (\\*batch, ...), and of no event
        but that of an element.
        """
        ...


@dataclass(frozen=True)
class Succession:
    r"""A distribution of an event (T, ...) that is a product of its parts, each given those before it.

    .. math:: \log p(z) = \sum_{t=1}^T \log p(z_t \mid z_1, \dots, z_{t-1})

    The elements within a part are independent given the parts before it.

    Attributes:
        fn: the distribution.
        following: from (\*batch, t, ...) to the distribution of part t, as `HasFollowing` has it.
    """

    fn: Any
    following: Callable[[Tensor], Any]

    @property
    def num_parts(self) -> int:
        """T."""
        return int(self.fn.event_shape[0])

    def first(self) -> Any:
        """The distribution of part 0."""
        value = self.fn.sample()
        return self.following(value.narrow(value.dim() - len(self.fn.event_shape), 0, 0))


def succession(fn: Any) -> Succession | None:
    r"""A distribution as its parts one after the other; None for one of which no such form is known.

    Known are normal distributions with a full covariance, and whatever has a method `following`.

    >>> import pyro.distributions as dist
    >>> covariance = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    >>> found = succession(dist.MultivariateNormal(torch.zeros(2), covariance))
    >>> found.following(torch.tensor([2.0])).mean
    tensor(1.2000)
    """
    inner: Any = fn
    while isinstance(inner, Independent) and not inner.reinterpreted_batch_ndims:
        inner = inner.base_dist
    while isinstance(inner, ExpandedDistribution):
        inner = inner.base_dist.expand(inner.batch_shape)
    if isinstance(inner, HasFollowing):
        return Succession(inner, inner.following)
    if isinstance(inner, MultivariateNormal | LowRankMultivariateNormal):
        normal, factor = inner, inner.scale_tril
        return Succession(inner, lambda before: _normal(normal.loc, factor, before))
    return None


def _normal(loc: Tensor, factor: Tensor, before: Tensor) -> Normal:
    """The next number of loc + factor noise, from those before it."""
    number = before.shape[-1]
    known = (before - loc[..., :number]).unsqueeze(-1)
    noise = torch.linalg.solve_triangular(factor[..., :number, :number], known, upper=False).squeeze(-1)
    moved = (factor[..., number, :number] * noise).sum(-1)
    return Normal(loc[..., number] + moved, factor[..., number, number], validate_args=False)
