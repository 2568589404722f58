"""Padding: sequences of unequal lengths in one tensor, of which what comes after an end is no data."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import is_validation_enabled
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor
from torch.distributions import Independent, OneHotCategorical

from ppl_vae.core.observed import inside


def steps_there(x: Tensor, length: Tensor | None) -> Tensor | None:
    """(B, T): which of the T steps of x, (B, T, ...), each sequence has; None where all have all of them.

    Raises:
        ValueError: for shapes that do not fit and, when validation is on, for lengths that x cannot have.
    """
    if x.dim() < 2 or not x.shape[1]:
        raise ValueError(f"x must be sequences of one step or more, (B, T, ...), got {tuple(x.shape)}")
    if length is None:
        return None
    if length.shape != x.shape[:1] or length.dtype == torch.bool:
        raise ValueError(
            f"length must be whole numbers, one for each of the {len(x)} sequences, ({len(x)},), got "
            f"{tuple(length.shape)}{' of booleans: mask.sum(1)' if length.dtype == torch.bool else ''}"
        )
    if is_validation_enabled() and not bool(((length >= 0) & (length <= x.shape[1])).all()):
        raise ValueError(
            f"length must lie between 0 and the {x.shape[1]} steps of x, got values from {int(length.min())} "
            f"to {int(length.max())}"
        )
    if is_validation_enabled() and length.is_floating_point() and not bool((length == length.round()).all()):
        found = float(length[length != length.round()][0])
        raise ValueError(f"length must be whole numbers of steps, found {found:g}: round them")
    return torch.arange(x.shape[1], device=length.device) < length.unsqueeze(-1)


class Padded(MaskedDistribution):  # type: ignore[misc]
    """The steps of sequences, of which some are there: the others have no density, and are drawn as zeros.

    Args:
        base_dist: of all steps, batch shape (..., B, T).
        mask: (B, T) booleans, True for the steps that a sequence has.

    >>> import pyro.distributions as dist
    >>> there = torch.tensor([[True, True, False]])
    >>> steps = Padded(dist.Normal(torch.full((1, 3), 9.0), 1.0), there)
    >>> steps.log_prob(torch.zeros(1, 3))
    tensor([[-41.4189, -41.4189,   0.0000]])
    >>> steps.to_event(1).mean
    tensor([[9., 9., 0.]])
    """

    def __init__(self, base_dist: Any, mask: Tensor) -> None:
        super().__init__(base_dist, mask)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Padded:
        shape = torch.Size(batch_shape)
        return Padded(self.base_dist.expand(shape), self._mask.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        # padding outside of the support, such as the 0 of positive numbers, must not meet the density
        return super().log_prob(self.filled(value))

    def filled(self, value: Tensor) -> Tensor:
        """A value with one from inside the support in the place of padding."""
        there = self._mask[(...,) + (None,) * self.event_dim]
        return torch.where(there, value, self._filler(value))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self._zeroed(self.base_dist.rsample(sample_shape))

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self._zeroed(self.base_dist.sample(sample_shape))

    @property
    def mean(self) -> Tensor:
        return self._zeroed(self.base_dist.mean)

    @property
    def variance(self) -> Tensor:
        return self._zeroed(self.base_dist.variance)

    def _filler(self, value: Tensor) -> Tensor | float:
        """A value that has a density: 0 but where the support has another border, or is of one-hot rows."""
        fn = self.base_dist
        while isinstance(fn, Independent | MaskedDistribution | ExpandedDistribution):
            fn = fn.base_dist
        bounded = any(hasattr(fn.support, bound) for bound in ("lower_bound", "upper_bound"))
        if bounded or isinstance(fn, OneHotCategorical):
            return inside(fn, value, "x")
        return 0.0

    def _zeroed(self, value: Tensor) -> Tensor:
        return value.masked_fill(~self._mask[(...,) + (None,) * self.event_dim], 0)
