"""The likelihood of a table's row: a likelihood for each column, or for several of one kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.likelihoods.mixed_distribution import MixedDistribution
from ppl_vae.likelihoods.mixed_elements import Layout
from ppl_vae.likelihoods.mixed_parts import HasKind, check_columns, likelihood_of, part_of, tried


class Mixed(nn.Module):
    r"""A row of columns of different kinds, a likelihood for each, where NaN stands for a missing cell.

    .. math:: \log p(x \mid z) = \sum_{d \,:\, x_d \text{ is seen}} \log p_d(x_d \mid z)

    Given z the columns are independent, so that the sum over what is seen is the exact log-density of the
    seen cells, with the others integrated out: every bound is then one on the evidence of what is seen
    (Nazabal, Olmos, Ghahramani and Valera, arXiv:1807.03653; Mattei and Frellsen, arXiv:1812.02633). That
    learns the right thing where values are missing at random. No NaN reaches a density or a gradient; the
    guide needs an encoder that takes NaN too, such as `nets.ColumnEncoder`. Samples are complete rows.

    Raw layout: the raw outputs of the parts, one after the other, each in its own layout.
    The mean of a datum is each column's mean, and of a categorical column the likeliest class.

    Args:
        parts: likelihoods over vectors (event_dim=1) whose outputs are independent.
        columns: for each part the columns of x that it is of; in their order, one a part, by default.
        names: of the columns, for the errors.

    Raises:
        ValueError: for columns that are not each in one part; for a part that is none, naming it; from
            `check`, and from `log_prob` when validation is on, for values outside a column's support,
            naming the column.

    >>> from ppl_vae.likelihoods import Categorical, Gaussian
    >>> parts = (Gaussian(scale=1.0, event_dim=1), Categorical(3, event_dim=1))
    >>> likelihood = Mixed(parts, columns=((0, 2), (1,)))
    >>> likelihood.raw_shape((3,))
    (5,)
    >>> p = likelihood(torch.zeros(5))
    >>> p.log_prob(torch.tensor([0.0, 2.0, 0.0])), p.log_prob(torch.tensor([float("nan"), 2.0, 0.0]))
    (tensor(-2.9365), tensor(-2.0176))
    """

    event_dim = 1
    takes_missing = True
    fill: Tensor
    order: Tensor | None
    inverse: Tensor | None

    def __init__(
        self,
        parts: tuple[nn.Module, ...],
        columns: tuple[tuple[int, ...], ...] | None = None,
        names: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.columns = columns
        self.names = tuple(names)
        self.groups = tuple((i,) for i in range(len(parts))) if columns is None else columns
        check_columns(parts, self.groups, self.names)
        self.sizes = tuple(len(group) for group in self.groups)
        order = torch.tensor([column for group in self.groups for column in group])
        fill = torch.empty(len(order))
        self.raw_sizes: tuple[int, ...] = ()
        for part, group in zip(parts, self.groups):
            size, value = tried(part, len(group))
            self.raw_sizes += (size,)
            fill[list(group)] = value
        sorted_already = bool((order == torch.arange(len(order))).all())
        # not stored with the weights: they follow from the arguments
        self.register_buffer("fill", fill, persistent=False)
        self.register_buffer("order", None if sorted_already else order, persistent=False)
        self.register_buffer("inverse", None if sorted_already else order.argsort(), persistent=False)

    @classmethod
    def of(cls, columns: Iterable[HasKind]) -> Mixed:
        """The likelihood of a table: `Mixed.of(dataset.schema)`.

        "numeric" and "log" columns get a `Gaussian` with a learned scale of their own, counts a
        `NegativeBinomial` with a learned total count, categories a `Categorical` (two of them a
        `Bernoulli`), ordinal columns an `Ordinal`. Columns of one kind are one part.

        Args:
            columns: a `data.Schema`, or anything that gives columns with `name`, `kind` and `size`.

        Raises:
            ValueError: for a column of another kind.
        """
        groups: dict[tuple[str, int], list[int]] = {}
        names = []
        for number, column in enumerate(columns):
            kind = "numeric" if column.kind == "log" else column.kind
            groups.setdefault((kind, column.size), []).append(number)
            names.append(column.name)
        parts = tuple(likelihood_of(kind, size, len(group)) for (kind, size), group in groups.items())
        return cls(parts, tuple(tuple(group) for group in groups.values()), tuple(names))

    def forward(self, raw: Tensor) -> dist.Distribution:
        """The distribution of the row given the decoder's raw output."""
        if raw.dim() < 1 or raw.shape[-1] != sum(self.raw_sizes):
            raise ValueError(
                f"likelihoods.Mixed: raw output of shape {tuple(raw.shape)}, and the parts of "
                f"{len(self.fill)} columns take {sum(self.raw_sizes)} numbers: build the decoder with "
                "shape=likelihood.raw_shape(data_shape)"
            )
        parts: Any = [part(each) for part, each in zip(self.parts, raw.split(self.raw_sizes, -1))]
        return MixedDistribution(
            parts, Layout(self.sizes, self.order, self.inverse, self.fill.to(raw.dtype), self.names)
        )

    def raw_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """All parameters of all columns, in one vector."""
        if tuple(shape) != (len(self.fill),):
            raise ValueError(
                f"likelihoods.Mixed: the event shape {tuple(shape)} is not that of a row of "
                f"{len(self.fill)} columns, ({len(self.fill)},): give each column of x to a part"
            )
        return (sum(self.raw_sizes),)

    def initial_bias(self, mean: Tensor) -> Tensor:
        """The parts' biases at the mean of what is seen; a column never seen starts at some value."""
        mean = torch.where(mean.isnan(), self.fill.to(mean), mean)
        biases = [
            part_of(part).initial_bias(mean[list(group)]) for part, group in zip(self.parts, self.groups)
        ]
        return torch.cat(biases, -1)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the column and its values outside the support; NaN is missing."""
        for part, group in zip(self.parts, self.groups):
            for column in group:
                values = x[..., column]
                try:
                    part_of(part).check(values[~values.isnan()])
                except ValueError as error:
                    name = f"column {self.names[column]!r}" if self.names else "a column"
                    told = str(error).partition(": ")[2]
                    raise ValueError(f"likelihoods.Mixed: {name} of x (x[..., {column}]): {told}") from error
