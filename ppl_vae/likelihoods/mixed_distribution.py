"""A row of columns of different kinds as one distribution, in which NaN stands for a missing cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints

from ppl_vae.likelihoods.mixed_elements import Layout, MixedElements
from ppl_vae.likelihoods.support import SupportChecked


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
        """Rows whose cells are missing or inside the support of their column."""
        return constraints.independent(self.elements().support, 1)

    def elements(self) -> MixedElements:
        """The distribution of the single cells."""
        return MixedElements([part.base_dist for part in self.parts], self.layout, validate_args=False)

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
        total: Any = 0.0
        for term in self.elements().terms(value):
            total = total + term.sum(-1)
        return total

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008, as torch writes it
        """A complete row."""
        return self.elements().sample(sample_shape)

    @property
    def mean(self) -> Tensor:
        """Each column's mean; the likeliest class of a categorical one, whose classes have no mean."""
        return self.elements().mean

    @property
    def variance(self) -> Tensor:
        """Each column's variance."""
        return self.elements().variance
