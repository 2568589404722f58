"""The results of queries: tensors by site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """What a query drew, by site; `latent`, `value`, `mean` are short for the only entry of each.

    A tensor is laid out as in the programs, `(*inner plates, n, *event)`, so `(n, *event)` where
    `data` is the only plate; a latent outside `data` has no n. Several draws, steps or dimensions
    of a query stand to the left of that.

    Attributes:
        latents: the latent sites' draws.
        values: the observed sites' draws. Empty from `encode`.
        means: by observed site the mean of its likelihood given the latents, which is what pictures
            show; the mode where the distribution has no mean (classes, strings), and the draw itself where
            it has neither. From `encode`: by latent site, the guide's mean.
    """

    latents: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    means: Mapping[str, Tensor]

    @property
    def latent(self) -> Tensor:
        """The draws of the only latent site."""
        return _only(self.latents, "latents")

    @property
    def value(self) -> Tensor:
        """The draws of the only observed site."""
        return _only(self.values, "values")

    @property
    def mean(self) -> Tensor:
        """The mean of the only observed site, or from `encode` of the only latent site."""
        return _only(self.means, "means")


@dataclass(frozen=True)
class Traversal(Draws):
    """`Draws` with leading dims (len(dims), len(positions)): one row a latent dimension.

    Attributes:
        site: the latent site that moves.
        dims: the dimensions of its flattened event, one a row.
        positions: (steps,) the values that each of them takes.
    """

    site: str
    dims: tuple[int, ...]
    positions: Tensor


def _only(entries: Mapping[str, Tensor], what: str) -> Tensor:
    if len(entries) != 1:
        raise ValueError(f"these draws have {what} for {list(entries)}: take one, .{what}[site]")
    return next(iter(entries.values()))
