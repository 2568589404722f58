"""The encoder of a table's rows, in which NaN is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from torch import nn

from ppl_vae.nets.activations import Activation
from ppl_vae.nets.column_features import ColumnFeatures
from ppl_vae.nets.encoder import Encoder
from ppl_vae.nets.mlp import MLP


class HasKind(Protocol):
    """A column of x as a table's schema describes it."""

    @property
    def kind(self) -> str:
        """ "count" is given to the net as its logarithm."""
        ...

    @property
    def size(self) -> int:
        """How many classes or levels; 1 for a number."""
        ...


class ColumnEncoder(Encoder):
    r"""An encoder of a table's rows, in which NaN is missing: `ColumnFeatures` under an `MLP`.

    .. math:: \mathrm{loc}, \mathrm{scale} = \mathrm{head}(\mathrm{MLP}(\mathrm{features}(x), \mathrm{mask}))

    A missing cell is zero among the features, and the mask tells it from a zero that was seen (the zero
    imputation of Nazabal, Olmos, Ghahramani and Valera, arXiv:1807.03653, with the mask beside it).

    Shapes: `(*batch, D)` to a pair of `(*batch, latent_dim)`.

    Args:
        classes: for each column the number of its classes or levels, which become one-hot; 1 for a number.
        latent_dim: dimension of the latent variable.
        hidden: widths of the hidden layers.
        activation: see `MLP`.
        counts: which columns are counts: the net sees log(1 + n).
        batch_norm: see `MLP`.
        dropout: see `MLP`.
        min_scale: floor of the scale, see `positive_scale`.
        max_scale: cap of the scale, see `positive_scale`.

    Raises:
        ValueError: for bad sizes or options, or an input of another event shape.

    >>> import torch
    >>> encoder = ColumnEncoder(classes=(1, 1, 3), latent_dim=2)
    >>> loc, scale = encoder(torch.tensor([[0.3, float("nan"), 2.0]]))
    >>> loc.shape, bool(loc.isfinite().all())
    (torch.Size([1, 2]), True)
    """

    takes_missing = True

    def __init__(
        self,
        classes: tuple[int, ...],
        latent_dim: int,
        hidden: tuple[int, ...] = (200, 200),
        activation: Activation = "tanh",
        counts: tuple[int, ...] = (),
        batch_norm: bool = False,
        dropout: float = 0.0,
        min_scale: float = 1e-4,
        max_scale: float = 1e2,
    ) -> None:
        features = ColumnFeatures(classes, counts)
        mlp = MLP(features.num_features, hidden, None, activation, batch_norm, dropout)
        super().__init__(nn.Sequential(features, mlp), mlp.num_features, latent_dim, min_scale, max_scale)
        self.classes = features.classes
        self.counts = features.counts
        self.shape = (len(self.classes),)
        self.hidden = mlp.hidden
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout

    @classmethod
    def of(cls, columns: Iterable[HasKind], latent_dim: int, **options: Any) -> ColumnEncoder:
        """The encoder of a table: `ColumnEncoder.of(dataset.schema, latent_dim=4, hidden=(64,))`.

        Args:
            columns: a `data.Schema`, or anything that gives columns with `kind` and `size`.
            latent_dim: dimension of the latent variable.
            options: the constructor's others.
        """
        known = list(columns)
        counts = tuple(number for number, column in enumerate(known) if column.kind == "count")
        return cls(tuple(column.size for column in known), latent_dim, counts=counts, **options)
