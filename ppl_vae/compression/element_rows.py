"""A site's elements with the data first: (rows, elements of a datum)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """How the elements of a site lie around the plate of data.

    Attributes:
        inner: the sizes of the plates inside, to the left of the data.
        event: the dims of the event that count elements.
        element: the dims of one element: none of a number, one of a one-hot vector.
    """

    inner: tuple[int, ...]
    event: tuple[int, ...]
    element: tuple[int, ...] = ()

    @property
    def num_elements(self) -> int:
        """Of one datum."""
        return math.prod(self.inner) * math.prod(self.event)

    def part(self) -> Layout:
        """Of one part of an event whose parts, along its first dim, come one after the other."""
        return self._replace(event=self.event[1:])

    def parts(self) -> list[Tensor]:
        """Which elements each of these parts has."""
        numbers = torch.arange(self.num_elements).reshape(*self.inner, *self.event)
        return [each.flatten() for each in numbers.unbind(len(self.inner))]

    def before(self, values: Tensor, number: int) -> Tensor:
        """The parts before one of them, of (*inner, rows, *event, ...)."""
        return values.narrow(len(self.inner) + 1, 0, number)

    def rows_first(self, values: Tensor) -> Tensor:
        """(*inner, rows, *event, ...) as (rows, elements, ...)."""
        moved = values.movedim(len(self.inner), 0)
        kept = moved.shape[1 + len(self.inner) + len(self.event) :]
        return moved.reshape(len(moved), self.num_elements, *kept)

    def as_in_site(self, values: Tensor) -> Tensor:
        """The way back."""
        kept = values.shape[2:]
        return values.reshape(len(values), *self.inner, *self.event, *kept).movedim(0, len(self.inner))

    def of_one_row(self, values: Tensor) -> Tensor:
        """(n, elements), the same for all rows, as (n, *inner, 1, *event)."""
        return values.reshape(len(values), *self.inner, 1, *self.event)
