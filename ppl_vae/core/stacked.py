"""Stacked: distributions of particles that were drawn one by one, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import kl_divergence, register_kl

from ppl_vae.core.density import has_density


class Stacked(TorchDistribution):
    """K distributions of one family side by side, the k-th that of the k-th particle.

    Args:
        parts: of one batch and event shape.
        plate_dim: where the particles go, a negative dim to the left of the parts' batch shape.
    """

    arg_constraints: Mapping[str, Any] = {}

    def __init__(self, parts: Sequence[Any], plate_dim: int) -> None:
        self.parts, self.plate_dim = list(parts), plate_dim
        inner = parts[0].batch_shape
        shape = (len(parts), *[1] * (-plate_dim - 1 - len(inner)), *inner)
        self.has_density = has_density(parts[0])
        self.has_rsample = all(part.has_rsample for part in parts)
        super().__init__(torch.Size(shape), parts[0].event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.parts[0].support

    @property
    def has_enumerate_support(self) -> bool:
        return bool(self.parts[0].has_enumerate_support)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values: Tensor = self.parts[0].enumerate_support(expand=False)
        size = len(values)
        values = values.reshape(size, *[1] * len(self.batch_shape), *self.event_shape)
        return values.expand(size, *self.batch_shape, *self.event_shape) if expand else values

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        raise NotImplementedError("particles that were drawn one by one have the shape that they have")

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        return self._each(lambda part: part.sample(sample_shape), self.event_dim)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        return self._each(lambda part: part.rsample(sample_shape), self.event_dim)

    def log_prob(self, value: Tensor) -> Tensor:
        values = unstacked(value, self.plate_dim, self.event_dim, len(self.parts))
        rows = [part.log_prob(each) for part, each in zip(self.parts, values)]
        return stack(rows, self.plate_dim)

    @property
    def mean(self) -> Tensor:
        return self._each(lambda part: part.mean, self.event_dim)

    @property
    def mode(self) -> Tensor:
        return self._each(lambda part: part.mode, self.event_dim)

    @property
    def variance(self) -> Tensor:
        return self._each(lambda part: part.variance, self.event_dim)

    def entropy(self) -> Tensor:
        return self._each(lambda part: part.entropy())

    def _each(self, value: Callable[[Any], Tensor], event_dim: int = 0) -> Tensor:
        return stack([value(part) for part in self.parts], self.plate_dim, event_dim)


@register_kl(Stacked, Stacked)
def _kl(first: Stacked, second: Stacked) -> Tensor:
    rows = [kl_divergence(one, other) for one, other in zip(first.parts, second.parts, strict=True)]
    return stack(rows, first.plate_dim)


def stack(rows: Sequence[Tensor], plate_dim: int, event_dim: int = 0) -> Tensor:
    """Rows of (*inner, *event) as (K, 1, ..., *inner, *event), with the particles at `plate_dim`."""
    place = -plate_dim - 1 + event_dim
    padded = [row.reshape((1,) * (place - row.dim()) + row.shape) for row in rows]
    return torch.stack(padded, -place - 1) if place else torch.stack(padded, -1)


def unstacked(value: Tensor, plate_dim: int, event_dim: int, count: int) -> Sequence[Tensor]:
    place = plate_dim - event_dim
    if value.dim() < -place or value.shape[place] == 1:
        alone = value if value.dim() < -place else value.select(place, 0)
        return [alone] * count
    return value.unbind(place)
