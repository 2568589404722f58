"""The one-hot vector of the nearest of a codebook's vectors, whose gradient goes past the choice."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ppl_vae.distributions.bits import OneHot, corner
from ppl_vae.distributions.improper import innermost


class Nearest(OneHot):
    r"""All mass on one value, that of the nearest vector e_k of a codebook: :math:`\log q(z^*) = 0`.

    .. math:: z^* = \mathrm{one\_hot}\Bigl(\arg\min_k \|h - e_k\|\Bigr)

    The draw's gradient is the straight-through one: with A from `lift`, z* plus a zero that has the gradient
    of :math:`(h - \mathrm{sg}\, h) A`, so that what is computed from z* E moves with h as if it were h.

    Args:
        points: (\*batch, D), the h.
        vectors: (C, D), E.
        lift: (D, C), A with A E = I and A 1 = 0, of `straight_through`; None for no gradient.
    """

    has_rsample = True
    has_enumerate_support = False  # the other values have no part in any expectation
    one_value: ClassVar[bool] = True

    def __init__(
        self, points: Tensor, vectors: Tensor, lift: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        self.points, self.vectors, self.lift = points, vectors, lift
        with torch.no_grad():
            self.chosen = corner(points @ vectors.mT - 0.5 * vectors.square().sum(-1))
        super().__init__(logits=self.chosen.log(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Nearest:
        points = self.points.expand(torch.Size(batch_shape) + self.points.shape[-1:])
        return Nearest(points, self.vectors, self.lift, validate_args=self._validate_args)

    @property
    def quantised(self) -> Tensor:
        """(\\*batch, D): the nearest vectors."""
        return self.chosen @ self.vectors

    def log_prob(self, value: Tensor) -> Tensor:
        """0 at the value and minus infinity elsewhere, (\\*batch,) from (\\*batch, C)."""
        if self._validate_args:
            self._validate_sample(value)
        same = value.argmax(-1) == self.chosen.argmax(-1)
        return value.new_zeros(same.shape).masked_fill(~same, -torch.inf)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        value = self.chosen
        if self.lift is not None:
            value = value + (self.points - self.points.detach()) @ self.lift
        return value.expand(self._extended_shape(torch.Size(sample_shape)))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.rsample(sample_shape).detach()


@torch.no_grad()
def straight_through(vectors: Tensor) -> Tensor:
    r"""(D, C): the shortest A with A E = I and A 1 = 0, for the vectors E, (C, D).

    A gradient g by z E comes to z as E g, and A E g = g; 1 is in the way of a uniform prior's gradient, which
    is the same for all values. Of vectors whose differences span less than all of space, such as C <= D of
    them, it gives the part of g along these differences: nowhere else can z E go.

    >>> vectors = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0], [3.0, -2.0]])
    >>> bool(torch.allclose(straight_through(vectors) @ vectors, torch.eye(2), atol=1e-5))
    True
    """
    lifted: Tensor = torch.linalg.pinv(vectors - vectors.mean(0))
    return lifted


def has_one_value(fn: Any) -> bool:
    """Whether a distribution says, by `one_value = True`, that all values but one are impossible."""
    return bool(getattr(innermost(fn), "one_value", False))
