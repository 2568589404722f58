"""One-hot codes that are drawn one after the other, each given those before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.nn import functional

from ppl_vae.distributions.bits import OneHot, corner

Each = Callable[[Tensor], Any]
"""From logits, (*batch, C), to one-hot vectors: `OneHot`, or a distribution whose draws have a path."""


def one_hot(logits: Tensor) -> OneHot:
    """`OneHot` of these logits."""
    return OneHot(logits=logits)


class InOrder(dist.TorchDistribution):
    r"""N one-hot codes of C values, each with probabilities that the codes before it decide.

    .. math:: \log p(z) = \sum_n \log \mathrm{softmax}\bigl(l_n(z_1, \ldots, z_{n-1})\bigr) \cdot z_n

    A density costs one look at the logits, a draw N of them.

    Args:
        logits: from codes, (\*batch, N, C), to the logits of each, of which the n-th must not look at the
            n-th code and later ones.
        like: (N, C), any; its size, type and device are used.
        batch_shape: of as many independent rows of codes.
        each: the distribution of a code from its logits; draws have a gradient where its draws have one.

    >>> p = InOrder(torch.zeros_like, torch.zeros(3, 4), batch_shape=(5,))
    >>> p.log_prob(p.sample()).shape
    torch.Size([5])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.one_hot, 1)

    def __init__(
        self,
        logits: Callable[[Tensor], Tensor],
        like: Tensor,
        batch_shape: Any = (),
        each: Each = one_hot,
        validate_args: bool | None = None,
    ) -> None:
        self.logits, self.like, self.each = logits, like, each
        super().__init__(torch.Size(batch_shape), like.shape, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether draws have a gradient."""
        return bool(self.each(self.like.detach()).has_rsample)

    def expand(self, batch_shape: Any, _instance: Any = None) -> InOrder:
        """The same distributions for a larger batch shape."""
        return InOrder(self.logits, self.like, batch_shape, self.each, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """(\\*batch,) from (\\*batch, N, C)."""
        if self._validate_args:
            OneHot(logits=torch.zeros_like(self.like))._validate_sample(value)
        found = (value * self.logits(value).log_softmax(-1)).sum((-1, -2))
        return found.expand(torch.broadcast_shapes(found.shape, self.batch_shape))

    def following(self, before: Tensor) -> OneHot:
        """(\\*batch,): the next code given those before it, (\\*batch, t, C)."""
        number = before.shape[-2]
        whole = functional.pad(before, (0, 0, 0, self.event_shape[0] - number))
        return OneHot(logits=self.logits(whole)[..., number, :])

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (\\*sample_shape, \\*batch, N, C)."""
        return self._one_by_one(sample_shape, lambda logits: self.each(logits).rsample())

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """The same without gradients."""
        return self._one_by_one(sample_shape, lambda logits: self.each(logits).sample())

    @property
    def mode(self) -> Tensor:
        """Each code at its likeliest given those before it, which need not be the likeliest of all."""
        return self._one_by_one((), corner)

    def _one_by_one(self, sample_shape: Any, choose: Callable[[Tensor], Tensor]) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        value = self.like.new_zeros(shape)
        for place in range(shape[-2]):
            logits = self.logits(value)[..., place, :].expand(*shape[:-2], -1)
            after = value[..., place + 1 :, :]
            value = torch.cat([value[..., :place, :], choose(logits).unsqueeze(-2), after], -2)
        return value
