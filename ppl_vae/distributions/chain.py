"""A chain of normal vectors, each given the one before it: the latents of a sequence, or their posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pyro.distributions import Normal, TorchDistribution, constraints
from torch import Tensor

Step = Callable[..., tuple[Tensor, Tensor]]
"""(z_before (..., d)) or (z_before, context (..., C)) to the location and the scale of the next, (..., d)."""


class NormalChain(TorchDistribution):
    r"""T vectors, each a diagonal normal whose location and scale a net makes of the one before it.

    .. math:: p(z_1, \dots, z_T) = \prod_{t=1}^{T} \mathcal{N}\bigl(z_t;\ \mu(z_{t-1}, c_t),\
        \mathrm{diag}\,\sigma(z_{t-1}, c_t)^2\bigr), \qquad z_0 = \text{start}

    Values are (\*batch, T, d) and one event. A density at given z takes one call of the net over all steps
    at once; only drawing goes step by step. From a sequence's end on every z_t is a standard normal that
    hangs on nothing: where two chains have the same lengths these factors cancel in their ratio, so that
    padding counts for nothing, and yet the density is a proper one over all of z.

    Args:
        step: from z_{t-1}, (..., d), and with a context from it and c_t, (..., C), to the location and the
            scale of z_t, (..., d) each, for any leading dims.
        start: z_0, (d,).
        num_steps: T.
        there: (\*batch, T) booleans, which steps a sequence has; None for all.
        context: c, (\*batch, T, C), what each step is told beside z_{t-1}; None for nothing.

    Krishnan, Shalit and Sontag, Structured Inference Networks for Nonlinear State Space Models,
    arXiv:1609.09869.

    >>> walk = NormalChain(lambda z: (0.9 * z, torch.ones_like(z)), torch.zeros(2), num_steps=5)
    >>> z = walk.rsample((3,))
    >>> z.shape, walk.log_prob(z).shape
    (torch.Size([3, 5, 2]), torch.Size([3]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        step: Step,
        start: Tensor,
        num_steps: int,
        there: Tensor | None = None,
        context: Tensor | None = None,
        batch_shape: torch.Size | None = None,
    ) -> None:
        self.step, self.start, self.there, self.context = step, start, there, context
        own = [torch.Size()] if there is None else [there.shape[:-1]]
        own += [] if context is None else [context.shape[:-2]]
        batch = torch.broadcast_shapes(*own) if batch_shape is None else batch_shape
        super().__init__(batch, torch.Size((num_steps, len(start))), validate_args=False)

    def expand(self, batch_shape: Any, _instance: object = None) -> NormalChain:
        """The same chains for a larger batch shape."""
        shape = torch.Size(batch_shape)
        return NormalChain(self.step, self.start, self.event_shape[0], self.there, self.context, shape)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draws, (*sample_shape, *batch, T, d)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.start.dtype, device=self.start.device)
        z, drawn = self.start.expand(*shape[:-2], -1), []
        for number in range(shape[-2]):
            step = self.at(number, z)
            z = step.loc + step.scale * noise[..., number, :]
            drawn.append(z)
        return torch.stack(drawn, -2)

    def following(self, before: Tensor) -> Normal:
        """(*batch, d): the next vector given those before it, (*batch, t, d)."""
        number = before.shape[-2]
        z = before[..., -1, :] if number else self.start.expand(*self.batch_shape, -1)
        return self.at(number, z)

    def log_prob(self, value: Tensor) -> Tensor:
        """(..., *batch) nats."""
        density: Tensor = self.factors(value).log_prob(value)
        return density.sum((-2, -1))

    def factors(self, value: Tensor) -> Normal:
        """(..., *batch, T, d): each step given the one before it in `value`."""
        lead = torch.broadcast_shapes(value.shape[:-2], self.batch_shape)
        value = value.expand(*lead, *self.event_shape)
        before = torch.cat([self.start.expand(*lead, 1, -1), value[..., :-1, :]], -2)
        there = None if self.there is None else self.there.unsqueeze(-1)
        return self._next(before, self.context, there)

    def at(self, number: int, before: Tensor) -> Normal:
        """(*batch, d): one step given the one before it, (*batch, d)."""
        context = None if self.context is None else self.context[..., number, :]
        there = None if self.there is None else self.there[..., number, None]
        return self._next(before, context, there)

    def _next(self, before: Tensor, context: Tensor | None, there: Tensor | None) -> Normal:
        if context is None:
            loc, scale = self.step(before)
        else:  # as wide as z, so that a step may join the two
            loc, scale = self.step(before, context.expand(*before.shape[:-1], context.shape[-1]))
        if there is not None:
            loc, scale = loc.where(there, 0.0), scale.where(there, 1.0)
        return Normal(loc, scale, validate_args=False)
