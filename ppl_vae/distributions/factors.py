"""The single dimensions of a distribution: where it factorises, where their marginals are known."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch.distributions
from torch.distributions import Independent

_NORMALS = (torch.distributions.MultivariateNormal, torch.distributions.LowRankMultivariateNormal)


def factors(fn: Any) -> Any | None:
    """The distribution of the single dimensions of one that factorises over them; None for another.

    >>> factors(dist.Normal(0.0, torch.ones(3)).to_event(1))
    Normal(loc: torch.Size([3]), scale: torch.Size([3]))
    >>> factors(dist.Dirichlet(torch.ones(3))) is None
    True
    """
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return None if fn.event_shape else fn


def marginals(fn: Any) -> Any | None:
    """The distribution of the single dimensions, each by itself; None where it is not known.

    >>> marginals(dist.MultivariateNormal(torch.zeros(2), 4 * torch.eye(2))).scale
    tensor([2., 2.])
    """
    if isinstance(fn, _NORMALS):
        return dist.Normal(fn.loc, fn.variance.sqrt())
    return factors(fn)
