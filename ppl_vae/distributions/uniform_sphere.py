"""The uniform distribution on the unit sphere."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions.kl import register_kl
from torch.nn.functional import normalize


class UniformSphere(TorchDistribution):
    r"""The uniform distribution on the unit sphere of R^d.

    .. math:: p(z) = \frac{\Gamma(d/2)}{2 \pi^{d/2}}, \qquad \|z\| = 1

    Args:
        like: a floating-point tensor of which only the shape `(*batch, d)`, dtype and device count.

    Raises:
        ValueError: when d is below 2.

    >>> UniformSphere(torch.zeros(3)).log_prob(torch.tensor([0.0, 0.0, 1.0])).exp() * 4 * math.pi
    tensor(1.0000)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.sphere
    has_rsample = True

    def __init__(self, like: Tensor, validate_args: bool | None = None) -> None:
        check_dim(like)
        self.like = like
        super().__init__(like.shape[:-1], like.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> UniformSphere:
        """The same distribution for a larger batch shape."""
        return UniformSphere(self.like.expand(*batch_shape, -1), validate_args=False)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draws, (*sample_shape, *batch, d)."""
        return normalize(torch.randn_like(self.like.expand(self._extended_shape(sample_shape))), dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density with respect to the sphere's area, (..., *batch) nats."""
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return (-self.entropy()).expand(shape)

    def entropy(self) -> Tensor:
        """The logarithm of the sphere's area, (*batch,) nats."""
        dim = self.event_shape[0]
        area = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
        return self.like.new_full(self.batch_shape, area)


def check_dim(vectors: Tensor) -> None:
    if vectors.dim() < 1 or vectors.shape[-1] < 2:
        raise ValueError(
            f"a sphere needs vectors of at least 2 dimensions, got shape {tuple(vectors.shape)}: take "
            f"latent_dim = 2 for a circle"
        )


@register_kl(UniformSphere, UniformSphere)
def _kl_uniform_uniform(q: UniformSphere, p: UniformSphere) -> Tensor:
    return p.entropy() - q.entropy()
