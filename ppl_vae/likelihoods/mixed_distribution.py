"""A row of columns of different kinds as one distribution, in which NaN stands for a missing cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, constraints

from ppl_vae.likelihoods.support import SupportChecked


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
    """Rows whose cells are missing or inside the support of their column."""

    event_dim = 1

    def __init__(self, parts: Sequence[Any], layout: Layout) -> None:
        self.parts, self.layout = parts, layout
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        filled = torch.where(value.isnan(), self.layout.fill.to(value), value)
        good = [part.base_dist.support.check(x) for part, x in zip(self.parts, self.layout.split(filled))]
        return torch.cat(_alike(good), -1).all(-1)


def _alike(values: Sequence[Tensor]) -> list[Tensor]:
    """Tensors that differ in their last dim alone, after broadcasting."""
    batch = torch.broadcast_shapes(*(value.shape[:-1] for value in values))
    return [value.expand(*batch, value.shape[-1]) for value in values]


class MixedDistribution(SupportChecked, TorchDistribution):
    r"""Independent columns, each of its own family; of a row with gaps the density of what is seen.

    .. math:: \log p(x \mid z) = \sum_{d \,:\, x_d \text{ is not NaN}} \log p_d(x_d \mid z)

    Given z the columns are independent, so that this is the exact marginal density of the seen cells. A NaN
    never meets a density: a value inside the support stands in its place, and what comes of it is left out.

    Args:
        parts: `Independent` distributions over vectors, all of one batch shape.
        layout: which columns each of them has.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012, torch's own annotation
    takes_missing = True

    def __init__(
        self, parts: Sequence[Independent], layout: Layout, validate_args: bool | None = None
    ) -> None:
        self.parts, self.layout = tuple(parts), layout
        batch_shape = torch.broadcast_shapes(*(part.batch_shape for part in self.parts))
        super().__init__(batch_shape, torch.Size([sum(layout.sizes)]), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """NaN, or what each column takes."""
        return SeenInSupport(self.parts, self.layout)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the column, its values outside the support and the fix."""
        for name, column, part, number in self._columns(x):
            if isinstance(part, SupportChecked):
                try:
                    part.check(column[~column.isnan()])
                except ValueError as error:
                    told = str(error).partition(": ")[2]
                    raise ValueError(f"likelihoods.Mixed: {name} of x ({number}): {told}") from error

    def _columns(self, x: Tensor) -> Iterator[tuple[str, Tensor, Distribution, str]]:
        places = range(sum(self.layout.sizes))
        order = list(places) if self.layout.order is None else self.layout.order.tolist()
        ends = [part for part, size in zip(self.parts, self.layout.sizes) for _ in range(size)]
        for column, part in zip(order, ends):
            name = f"column {self.layout.names[column]!r}" if self.layout.names else "a column"
            yield name, x[..., column], part.base_dist, f"x[..., {column}]"

    def expand(self, batch_shape: Any, _instance: Any = None) -> MixedDistribution:
        new = self._get_checked_instance(MixedDistribution, _instance)
        new.parts = tuple(part.expand(torch.Size(batch_shape)) for part in self.parts)
        new.layout = self.layout
        super(MixedDistribution, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        missing = value.isnan()
        filled = torch.where(missing, self.layout.fill.to(value), value)
        total: Any = 0.0
        split = zip(self.parts, self.layout.split(filled), self.layout.split(missing))
        for part, x, gap in split:
            total = total + part.base_dist.log_prob(x).masked_fill(gap, 0.0).sum(-1)
        return total

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008, as torch writes it
        """A complete row."""
        with torch.no_grad():
            drawn = [part.sample(sample_shape).to(self.layout.fill) for part in self.parts]
            return self.layout.join(_alike(drawn))

    @property
    def mean(self) -> Tensor:
        """Each column's mean; the likeliest class of a categorical one, whose classes have no mean."""
        return self.layout.join(_alike([_centre(part.base_dist).to(self.layout.fill) for part in self.parts]))

    @property
    def variance(self) -> Tensor:
        """Each column's variance."""
        return self.layout.join(_alike([part.base_dist.variance.to(self.layout.fill) for part in self.parts]))


def _centre(part: Any) -> Tensor:
    unordered = isinstance(part, Categorical) and not getattr(part, "ordered", False)
    return part.probs.argmax(-1) if unordered else part.mean
