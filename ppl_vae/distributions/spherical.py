"""Distributions on the unit sphere: the uniform one, and the power spherical around a direction."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import Beta
from torch.distributions.kl import register_kl
from torch.nn.functional import normalize

from ppl_vae.distributions.uniform_sphere import UniformSphere, check_dim


class PowerSpherical(TorchDistribution):
    r"""A distribution on the unit sphere of R^d around a direction, like von Mises-Fisher but easily drawn.

    .. math:: q(z) = C (1 + \mu^\top z)^\kappa, \qquad
        \log C = -(\alpha + \beta) \log 2 - \beta \log \pi - \log \Gamma(\alpha)
        + \log \Gamma(\alpha + \beta), \qquad
        \beta = \tfrac{d - 1}{2}, \ \alpha = \beta + \kappa

    Draws are exact and reparameterised; the KL to `UniformSphere` is in closed form. As in Pyro's
    ProjectedNormal, `mean` is the mean direction, a point of the sphere.

    Args:
        loc: `(*batch, d)`, any vectors but zero; mu is their direction.
        concentration: kappa, `(*batch,)`, not negative; 0 is the uniform distribution.

    Raises:
        ValueError: when d is below 2.

    De Cao and Aziz, The Power Spherical Distribution, arXiv:2006.04437.

    >>> q = PowerSpherical(torch.tensor([0.0, 3.0, 0.0]), torch.tensor(50.0))
    >>> q.mean, q.rsample((5,)).shape
    (tensor([0., 1., 0.]), torch.Size([5, 3]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real_vector,
        "concentration": constraints.nonnegative,
    }
    support = constraints.sphere
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor, validate_args: bool | None = None) -> None:
        check_dim(loc)
        batch_shape = torch.broadcast_shapes(loc.shape[:-1], concentration.shape)
        self.loc = normalize(loc, dim=-1).expand(*batch_shape, -1)
        self.concentration = concentration.expand(batch_shape)
        super().__init__(batch_shape, loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> PowerSpherical:
        """The same distributions for a larger batch shape."""
        return PowerSpherical(
            self.loc.expand(*batch_shape, -1), self.concentration.expand(batch_shape), validate_args=False
        )

    @property
    def mean(self) -> Tensor:
        """The mean direction mu, (*batch, d)."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """mu, (*batch, d)."""
        return self.loc

    @property
    def _beta(self) -> float:
        return (self.event_shape[0] - 1) / 2

    @property
    def _alpha(self) -> Tensor:
        return self.concentration + self._beta

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draws, (*sample_shape, *batch, d)."""
        shape = self._extended_shape(sample_shape)
        half = Beta(self._alpha, torch.full_like(self._alpha, self._beta), validate_args=False)
        share = half.rsample(sample_shape).unsqueeze(-1)
        across = normalize(torch.randn_like(self.loc.expand(shape)[..., 1:]), dim=-1)
        # t = 2 share - 1 along the first axis; the root has an infinite slope where share is 0 or 1
        radius = (4 * share * (1 - share)).clamp_min(torch.finfo(share.dtype).tiny).sqrt()
        upright = torch.cat([2 * share - 1, radius * across], -1)
        # the reflection that takes the first axis to mu
        axis = torch.zeros_like(self.loc)
        axis[..., 0] = 1
        mirror = normalize(axis - self.loc, dim=-1)
        turned = upright - 2 * (upright * mirror).sum(-1, keepdim=True) * mirror
        return normalize(turned, dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density with respect to the sphere's area, (..., *batch) nats."""
        if self._validate_args:
            self._validate_sample(value)
        along = (self.loc * value).sum(-1)
        # rounding may leave it a little below -1
        return (
            self.concentration * (1 + along).clamp_min(torch.finfo(along.dtype).tiny).log()
            - self._log_normaliser()
        )

    def _log_normaliser(self) -> Tensor:
        alpha, beta = self._alpha, self._beta
        return (
            (alpha + beta) * math.log(2)
            + beta * math.log(math.pi)
            + torch.lgamma(alpha)
            - torch.lgamma(alpha + beta)
        )

    def entropy(self) -> Tensor:
        """(*batch,) nats."""
        alpha, beta = self._alpha, self._beta
        mean_log = math.log(2) + torch.digamma(alpha) - torch.digamma(alpha + beta)
        return self._log_normaliser() - self.concentration * mean_log


@register_kl(PowerSpherical, UniformSphere)
def _kl_power_uniform(q: PowerSpherical, p: UniformSphere) -> Tensor:
    return p.entropy() - q.entropy()
