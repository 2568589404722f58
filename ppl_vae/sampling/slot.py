"""Where a site's numbers stand in the vector of a datum's latents."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Slot:
    """Where a site's numbers stand in the vector of a datum's latents.

    Attributes:
        name: of the site.
        plates: its batch shape in the program, without particles; the last one is B.
        event: the shape of its event on the whole real line.
        rank: how many dims the plates of the pair take.
    """

    name: str
    plates: tuple[int, ...]
    event: tuple[int, ...]
    rank: int

    @property
    def size(self) -> int:
        """How many numbers a datum has."""
        return math.prod(self.plates[:-1]) * math.prod(self.event)

    def lead(self, count: int) -> tuple[int, ...]:
        """The dims to the left of the site's own plates, where `count` particles run at once."""
        return () if count == 1 else (count, *[1] * (self.rank - len(self.plates)))

    def spread(self, flat: Tensor) -> Tensor:
        """From (K, B, size) to the program's (K, ..., *plates, *event), without K where it is 1."""
        count, data = flat.shape[:2]
        inner = flat.reshape(count, data, *self.plates[:-1], *self.event).movedim(1, len(self.plates))
        return inner.reshape(*self.lead(count), *self.plates, *self.event)

    def flat(self, values: Tensor, count: int) -> Tensor:
        """The way back."""
        values = values.expand(*self.lead(count), *self.plates, *self.event)
        values = values.reshape(count, *self.plates, *self.event).movedim(len(self.plates), 1)
        return values.reshape(count, self.plates[-1], -1)
