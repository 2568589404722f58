"""The single columns of a mixed likelihood: elements of different families, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Categorical, constraints


class Layout(NamedTuple):
    """Which columns of a datum each part has.

    Attributes:
        sizes: how many columns each part has.
        order: the columns, part after part; None where they stand in that order already.
        inverse: the way back.
        fill: a value inside each column's support, which stands in for a missing one.
        names: of the columns, for errors; none is a number.
    """

    sizes: tuple[int, ...]
    order: Tensor | None
    inverse: Tensor | None
    fill: Tensor
    names: tuple[str, ...] = ()

    def split(self, value: Tensor) -> tuple[Tensor, ...]:
        """The columns of each part, `(..., n)`."""
        ordered = value if self.order is None else value.index_select(-1, self.order)
        return ordered.split(self.sizes, -1)

    def join(self, values: Sequence[Tensor]) -> Tensor:
        """A datum from the columns of each part."""
        ordered = torch.cat(list(values), -1)
        return ordered if self.inverse is None else ordered.index_select(-1, self.inverse)


class SeenInSupport(constraints.Constraint):
    """Cells that are missing or inside the support of their column."""

    event_dim = 0

    def __init__(self, parts: Sequence[Any], layout: Layout) -> None:
        self.parts, self.layout = parts, layout
        super().__init__()

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return all(bool(part.support.is_discrete) for part in self.parts)

    def check(self, value: Tensor) -> Tensor:
        filled = torch.where(value.isnan(), self.layout.fill.to(value), value)
        good = [part.support.check(x) for part, x in zip(self.parts, self.layout.split(filled))]
        return self.layout.join(alike(good))


class MixedElements(TorchDistribution):
    """Columns of different families, each cell for itself; the density of a NaN is 1, its logarithm 0.

    Args:
        parts: distributions of single numbers, (*batch, n) of the n columns that each of them has.
        layout: which columns these are.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012, torch's own annotation
    takes_missing = True

    def __init__(self, parts: Sequence[Any], layout: Layout, validate_args: bool | None = None) -> None:
        self.parts, self.layout = tuple(parts), layout
        batch = torch.broadcast_shapes(*(part.batch_shape[:-1] for part in self.parts))
        super().__init__(torch.Size((*batch, sum(layout.sizes))), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """NaN, or what each column takes."""
        return SeenInSupport(self.parts, self.layout)

    def expand(self, batch_shape: Any, _instance: Any = None) -> MixedElements:
        lead = tuple(batch_shape)[:-1]
        parts = [part.expand((*lead, part.batch_shape[-1])) for part in self.parts]
        return MixedElements(parts, self.layout, validate_args=False)

    def split(self, value: Tensor) -> tuple[Tensor, ...]:
        """The columns of each part, `(..., n)`."""
        return self.layout.split(value)

    def join(self, values: Sequence[Tensor]) -> Tensor:
        """A row from the columns of each part."""
        return self.layout.join(alike(values))

    def terms(self, value: Tensor) -> list[Tensor]:
        """The log-density of the cells of each part; 0 of a missing one, and it never meets the density."""
        missing = value.isnan()
        filled = torch.where(missing, self.layout.fill.to(value), value)
        split = zip(self.parts, self.layout.split(filled), self.layout.split(missing))
        return [part.log_prob(x).masked_fill(gap, 0.0) for part, x, gap in split]

    def log_prob(self, value: Tensor) -> Tensor:
        return self.join(self.terms(value))

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008, as torch writes it
        """Complete cells."""
        with torch.no_grad():
            return self._of_parts(lambda part: part.sample(sample_shape))

    @property
    def mean(self) -> Tensor:
        """Each column's mean; the likeliest class of a categorical one, whose classes have no mean."""
        return self._of_parts(_centre)

    @property
    def variance(self) -> Tensor:
        """Each column's variance."""
        return self._of_parts(lambda part: part.variance)

    def _of_parts(self, function: Callable[[Any], Tensor]) -> Tensor:
        return self.join([function(part).to(self.layout.fill) for part in self.parts])


def alike(values: Sequence[Tensor]) -> list[Tensor]:
    """Tensors that differ in their last dim alone, after broadcasting."""
    batch = torch.broadcast_shapes(*(value.shape[:-1] for value in values))
    return [value.expand(*batch, value.shape[-1]) for value in values]


def _centre(part: Any) -> Tensor:
    unordered = isinstance(part, Categorical) and not getattr(part, "ordered", False)
    return part.probs.argmax(-1) if unordered else part.mean
