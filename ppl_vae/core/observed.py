"""Distributions of elements of which only some are observed."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor
from torch.distributions import OneHotCategorical, constraints

from ppl_vae.core.missing import takes_missing
from ppl_vae.core.sites import PairError

_REAL, _BOOLEAN = type(constraints.real), type(constraints.boolean)
_CANDIDATES = (0.5, 1.0, 0.0, -1.0)  # the inner ones first: a density may be infinite at an end


class Observed(MaskedDistribution):  # type: ignore[misc]
    """Elements of which some are observed; what is not may have any value, NaN too.

    Args:
        base_dist: the distribution of the elements.
        mask: (*batch) booleans, True where observed, or one for all.
        site: the name of the site, for refusals.
    """

    takes_missing = True

    def __init__(self, base_dist: Any, mask: Tensor | bool, site: str) -> None:
        self.site = site
        super().__init__(base_dist, mask)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Observed:
        shape = torch.Size(batch_shape)
        mask = self._mask.expand(shape) if isinstance(self._mask, Tensor) else self._mask
        return Observed(self.base_dist.expand(shape), mask, self.site)

    def filled(self, value: Tensor) -> Tensor:
        """A value with one from inside the support wherever it is not observed."""
        mask = torch.as_tensor(self._mask, device=value.device)[(...,) + (None,) * self.event_dim]
        return torch.where(mask, value, inside(self.base_dist, value, self.site))

    def log_prob(self, value: Tensor) -> Tensor:
        # the other values never meet the density: 0 times the gradient of a NaN would be NaN
        return super().log_prob(self.filled(value))

    @property
    def support(self) -> constraints.Constraint:
        """What the distribution takes, and anything where it is not observed."""
        return _WhereObserved(self)


class _WhereObserved(constraints.Constraint):
    def __init__(self, fn: Observed) -> None:
        self.fn, self.inner = fn, fn.base_dist.support
        super().__init__()

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return bool(self.inner.is_discrete)

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return int(self.inner.event_dim)

    def check(self, value: Tensor) -> Tensor:
        good: Tensor = self.inner.check(self.fn.filled(value))
        return good


@runtime_checkable
class LooksAtSome(Protocol):
    """A distribution to which some of a value's entries are no data: what is not observed, or padding."""

    def filled(self, value: Tensor, /) -> Tensor:
        """The value with one from inside the support in the place of these."""
        ...


def observed_values(fn: Any, value: Tensor) -> Tensor:
    """A site's value with one from inside the support wherever the distribution does not look at it."""
    while hasattr(fn, "base_dist"):
        if isinstance(fn, LooksAtSome):
            value = fn.filled(value)
        fn = fn.base_dist
    return value


def inside(fn: Any, value: Tensor, site: str) -> Tensor:
    """A value inside the support of elements, broadcastable to `value` and of its type, where the density is
    finite; NaN of a distribution that takes it for a missing value.

    Raises:
        PairError: where none is found.
    """
    if takes_missing(fn) and value.is_floating_point():
        return value.new_full((), torch.nan)
    while isinstance(fn, MaskedDistribution | ExpandedDistribution):
        fn = fn.base_dist
    if isinstance(fn, OneHotCategorical):
        first = torch.zeros(fn.event_shape, dtype=value.dtype, device=value.device)
        first[..., 0] = 1
        return first
    support = fn.support
    low, high = (getattr(support, bound, None) for bound in ("lower_bound", "upper_bound"))
    found: Any = None
    if low is not None and support.is_discrete:
        found = low
    elif low is not None:
        found = low + 1 if high is None else (low + high) / 2
    elif high is not None:
        found = high - 1
    elif isinstance(support, _REAL | _BOOLEAN):  # known without a look, which a captured step could not take
        found = 0.5 if isinstance(support, _REAL) else 1
    if found is not None:
        return torch.as_tensor(found, device=value.device).to(value.dtype)
    for candidate in _CANDIDATES if value.is_floating_point() else (1, 0):
        found = value.new_full((), candidate)
        if bool(support.check(found).all()):
            return found
    raise PairError(
        f"site {site!r}: none of {list(_CANDIDATES)} lies inside the support of {type(fn).__name__}, and a "
        "value must stand where it is not observed: shift or scale the data"
    )
