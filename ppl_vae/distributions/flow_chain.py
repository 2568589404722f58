"""A chain of vectors each of which goes through a flow: a guide's latents that are not normal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import Transform

from ppl_vae.distributions.chain import NormalChain
from ppl_vae.transforms.conditioned import Conditioned


class FlowChain(TorchDistribution):
    r"""T vectors, each a normal one given the vector before it, sent through transforms that see a context.

    .. math:: u_t \sim \mathcal{N}\bigl(\mu(z_{t-1}, c_t),\ \mathrm{diag}\,\sigma(z_{t-1}, c_t)^2\bigr),
        \qquad z_t = f(u_t; c_t)

    Values are (\*batch, T, d) and one event. The density of what was drawn last takes no inverse; at other
    values it takes that of f, over all steps at once. From a sequence's end on nothing is transformed, and
    z_t is the standard normal that `NormalChain` has there.

    Args:
        base: the chain of which a step is u_t; it has a context.
        flow: functions from a context, (..., C), to a transform of vectors, the first for u_t; zuko's lazy
            transforms are such functions.

    Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow, arXiv:1606.04934.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(self, base: NormalChain, flow: Sequence[Callable[[Tensor], Transform]]) -> None:
        if base.context is None:
            raise ValueError("FlowChain: the base has no context for its flow: NormalChain(..., context=c)")
        self.base, self.flow, self.context = base, tuple(flow), base.context
        self._drawn: tuple[Tensor, Tensor, Tensor] | None = None
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: object = None) -> FlowChain:
        """The same chains for a larger batch shape."""
        return FlowChain(self.base.expand(batch_shape), self.flow)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draws, (*sample_shape, *batch, T, d)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        z = self.base.start.expand(*shape[:-2], -1)
        steps: list[tuple[Tensor, Tensor, Tensor]] = []
        for number in range(shape[-2]):
            u = self.base.at(number, z).rsample()
            z, log_det = self._bent(u, self.context[..., number, :], self._there(number))
            steps.append((z, u, log_det))
        value, before = (torch.stack([step[part] for step in steps], -2) for part in (0, 1))
        if torch.is_grad_enabled():  # else what is remembered would lack its gradients
            self._drawn = value, before, torch.stack([step[2] for step in steps], -1)
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        """(..., *batch) nats."""
        if self._drawn is not None and self._drawn[0] is value:
            _, u, log_det = self._drawn
        else:
            lead = torch.broadcast_shapes(value.shape[:-2], self.batch_shape)
            u, log_det = self._straight(value.expand(*lead, *self.event_shape))
        density: Tensor = self.base.factors(value).log_prob(u)
        return density.sum((-2, -1)) - log_det.sum(-1)

    def _bent(self, u: Tensor, context: Tensor, there: Tensor | None) -> tuple[Tensor, Tensor]:
        """z, (..., d), and log |det dz/du|, (...)."""
        z, log_det = u, u.new_zeros(u.shape[:-1])
        for make in self.flow:
            transform = Conditioned(make, context)
            bent = transform(z)
            log_det = log_det + transform.log_abs_det_jacobian(z, bent)
            z = bent
        if there is None:
            return z, log_det
        return torch.where(there.unsqueeze(-1), z, u), log_det.where(there, 0.0)

    def _straight(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """u at given z, (..., T, d), and log |det dz/du|, (..., T)."""
        u, log_det = value, value.new_zeros(value.shape[:-1])
        for make in reversed(self.flow):
            transform = Conditioned(make, self.context)
            before = transform.inv(u)
            log_det = log_det + transform.log_abs_det_jacobian(before, u)
            u = before
        there = self._there()
        if there is None:
            return u, log_det
        return torch.where(there.unsqueeze(-1), u, value), log_det.where(there, 0.0)

    def _there(self, number: int | None = None) -> Tensor | None:
        there = self.base.there
        return there if there is None or number is None else there[..., number]
