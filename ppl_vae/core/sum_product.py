"""Sums over finite variables of a product of densities, in logarithms, slice by slice of the plates."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_vae.core.sites import PairError

MOST_ENTRIES = 2**27
"""A product of densities with more entries than this is not made."""


@dataclass(frozen=True)
class Factor:
    """The logarithm of a density as a table.

    Attributes:
        table: one dim for each of `dims`.
        dims: the plates and variables that the dims stand for, by name.
    """

    table: Tensor
    dims: tuple[str, ...]


@dataclass(frozen=True)
class SumProduct:
    r"""Variable elimination in a product of factors under plates.

    .. math:: \log \sum_v \prod_f f(v)

    A variable inside a plate is another one in each slice, so the product over the slices is taken before
    the sum over a variable further out, and the cost grows with the number of slices and not with a power
    of it. Everything stays in logarithms: a product of probabilities far apart does not vanish.

    Args:
        plates: the inner plates of each variable, by its name.
        sizes: the length of each dim, by name.
        kept: the plates of which nothing is multiplied, the data's and the particles'.
    """

    plates: Mapping[str, frozenset[str]]
    sizes: Mapping[str, int]
    kept: frozenset[str]

    def without(self, factors: Sequence[Factor], variable: str) -> list[Factor]:
        """The factors after the sum over a variable.

        Raises:
            PairError: where the product would be too large, or couples the slices of two plates.
        """
        rest = [factor for factor in factors if variable not in factor.dims]
        having = [
            self._multiplied_over_plates(factor, self.plates[variable] | {variable}, variable)
            for factor in factors
            if variable in factor.dims
        ]
        product = self._product(having)
        dim = product.dims.index(variable)
        summed = _log_sum_exp(product.table, dim)
        return [*rest, Factor(summed, product.dims[:dim] + product.dims[dim + 1 :])]

    def total(self, factors: Sequence[Factor], but: Collection[str] = ()) -> Factor:
        """The product of all factors with the sum over every variable but some, whose plates stay too."""
        left = list(factors)
        while open_ := {v for factor in left for v in factor.dims if v in self.plates and v not in but}:
            # deepest plates first, and of those the sum whose table is smallest
            left = self.without(
                left, min(sorted(open_), key=lambda v: (-len(self.plates[v]), self._cost(left, v)))
            )
        stay = frozenset[str]().union(*(self.plates[v] | {v} for v in but))
        return self._product([self._multiplied_over_plates(factor, stay, "") for factor in left])

    def finished(self, factors: Sequence[Factor], variables: Iterable[str]) -> list[Factor]:
        """The factors after the sums over those of the variables that stand with none further in."""
        left, waiting = list(factors), list(variables)
        while ready := [v for v in waiting if self._is_innermost(left, v)]:
            chosen = min(ready, key=lambda v: self._cost(left, v))
            left = self.without(left, chosen)
            waiting.remove(chosen)
        return left

    def _is_innermost(self, factors: Sequence[Factor], variable: str) -> bool:
        own = self.plates[variable]
        met = {v for f in factors if variable in f.dims for v in f.dims if v in self.plates}
        return all(self.plates[v] <= own for v in met)

    def _cost(self, factors: Sequence[Factor], variable: str) -> int:
        met = {dim for factor in factors if variable in factor.dims for dim in factor.dims}
        return math.prod(self.sizes[dim] for dim in met)

    def _multiplied_over_plates(self, factor: Factor, stay: Collection[str], variable: str) -> Factor:
        """The product over the slices of the plates that are not to stay."""
        going = [d for d in factor.dims if d not in self.plates and d not in self.kept and d not in stay]
        if not going:
            return factor
        for other in factor.dims:
            if other in self.plates and not self.plates[other].isdisjoint(going):
                raise PairError(
                    f"the sites {variable!r} and {other!r}, which are to be summed over, stand in plates "
                    "neither of which is inside the other, and depend on each other in a third site: the "
                    f"sum has {self.sizes[other]} to the power of the plate's size terms. Give one of them "
                    "to the guide"
                )
        table = factor.table.sum([factor.dims.index(dim) for dim in going])
        return Factor(table, tuple(dim for dim in factor.dims if dim not in going))

    def _product(self, factors: Sequence[Factor]) -> Factor:
        dims = tuple(dict.fromkeys(dim for factor in factors for dim in factor.dims))
        entries = math.prod(self.sizes[dim] for dim in dims)
        if entries > MOST_ENTRIES:
            summed = [dim for dim in dims if dim in self.plates]
            combinations = math.prod(self.sizes[dim] for dim in summed)
            raise PairError(
                f"the sites {summed}, which are to be summed over, depend on each other: their "
                f"{combinations:,} combinations of values make a table of {entries:,} entries, and no more "
                f"than {MOST_ENTRIES:,} are made. Give some of them to the guide, with estimators.VIMCO or "
                "estimators.NVIL, or let each depend on fewer of the others"
            )
        table = torch.zeros(())
        for number, factor in enumerate(factors):
            one = aligned(factor, dims)
            table = one if number == 0 else table + one
        return Factor(table, dims)


def _log_sum_exp(values: Tensor, dim: int) -> Tensor:
    """torch's, but of nothing but impossible values the gradient is 0, and not NaN."""
    largest = values.detach().amax(dim, keepdim=True)
    largest = largest.where(largest.isfinite(), 0.0)
    total = (values - largest).exp().sum(dim)
    impossible = total == 0
    return total.where(~impossible, 1.0).log().where(~impossible, -torch.inf) + largest.squeeze(dim)


def chosen(factor: Factor, variable: str, index: Factor) -> Factor:
    """A factor at given values of a variable: `index` has their numbers."""
    if variable not in factor.dims:
        return factor
    dims = tuple(dict.fromkeys([*(dim for dim in factor.dims if dim != variable), *index.dims]))
    table, number = aligned(factor, (*dims, variable)), aligned(index, dims)
    shape = torch.broadcast_shapes(table.shape[:-1], number.shape)
    table = table.expand(*shape, table.shape[-1])
    return Factor(table.gather(-1, number.expand(shape).unsqueeze(-1)).squeeze(-1), dims)


def aligned(factor: Factor, dims: Sequence[str]) -> Tensor:
    """A factor's table with its dims in another order, and 1s for those that it has not."""
    order = sorted(range(len(factor.dims)), key=lambda place: dims.index(factor.dims[place]))
    shape = iter([factor.table.shape[place] for place in order])
    return factor.table.permute(order).reshape([next(shape) if dim in factor.dims else 1 for dim in dims])


def components(factors: Mapping[str, Factor], variables: Collection[str]) -> list[list[str]]:
    """The factors' names, those together that share a variable, directly or through others;
    each in order.
    """
    found: list[tuple[set[str], list[str]]] = []
    for name, factor in factors.items():
        own = {dim for dim in factor.dims if dim in variables}
        joined = [each for each in found if not each[0].isdisjoint(own)]
        found = [each for each in found if each[0].isdisjoint(own)]
        found.append(
            (own.union(*(each[0] for each in joined)), [*(n for _, names in joined for n in names), name])
        )
    order = {name: place for place, name in enumerate(factors)}
    return [sorted(names, key=order.__getitem__) for _, names in found]
