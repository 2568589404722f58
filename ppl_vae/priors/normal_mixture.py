"""NormalMixture: a mixture of diagonal normals whose log-density costs one matrix product."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import lazy_property


class NormalMixture(dist.TorchDistribution):
    r"""A mixture of C normals with diagonal covariances, the same mixture for all of a batch shape.

    .. math:: p(z) = \sum_c \pi_c \prod_j \mathcal{N}(z_j; m_{cj}, s_{cj}^2)

    The exponents are linear in (z^2, z), so that all of them are one matrix product and nothing of size
    (*batch, C, d) is ever made. The product is in float64, where that exists: its terms are as large as
    (m / s)^2 and cancel, and in float32 a narrow component's density would be rounding error.

    Args:
        loc: m, (C, d).
        scale: s, (C, d), positive.
        logits: (C,) unnormalised log pi; None for 1 / C, which is what makes draws reparameterised.

    Raises:
        ValueError: for shapes that do not fit.

    >>> p = NormalMixture(torch.randn(500, 40), torch.ones(500, 40)).expand((10, 100))
    >>> p.log_prob(torch.zeros(10, 100, 40)).shape
    torch.Size([10, 100])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
    }
    support = constraints.real_vector

    def __init__(
        self, loc: Tensor, scale: Tensor, logits: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        if (
            loc.dim() != 2
            or loc.shape != scale.shape
            or (logits is not None and logits.shape != loc.shape[:1])
        ):
            shapes = [None if each is None else tuple(each.shape) for each in (loc, scale, logits)]
            raise ValueError(f"loc and scale must be (C, d) and logits (C,), got shapes {shapes}")
        self.loc = loc
        self.scale = scale
        self.logits = logits
        super().__init__(torch.Size(), loc.shape[-1:], validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether a draw's gradient is complete: that of the weights would be missing."""
        return self.logits is None

    @property
    def num_components(self) -> int:
        """C."""
        return len(self.loc)

    @lazy_property
    def log_weight(self) -> Tensor:
        """(C,): log pi."""
        if self.logits is None:
            return self.loc.new_full((self.num_components,), -math.log(self.num_components))
        return self.logits.log_softmax(-1)

    @property
    def mean(self) -> Tensor:
        """(*batch, d)."""
        return self._for_all(self.log_weight.exp() @ self.loc)

    @property
    def variance(self) -> Tensor:
        """(*batch, d): within the components, and between them."""
        weight = self.log_weight.exp()
        between = (self.loc - weight @ self.loc).square()
        return self._for_all(weight @ (self.scale.square() + between))

    @property
    def covariance_matrix(self) -> Tensor:
        """(*batch, d, d): within the components, and between them."""
        weight = self.log_weight.exp()
        between = self.loc - weight @ self.loc
        within = (weight @ self.scale.square()).diag_embed()
        covariance = within + (weight.unsqueeze(-1) * between).mT @ between
        return covariance.expand(self.batch_shape + covariance.shape)

    def _for_all(self, moment: Tensor) -> Tensor:
        return moment.expand(self.batch_shape + self.event_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> NormalMixture:
        new: NormalMixture = self._get_checked_instance(NormalMixture, _instance)
        # not the parameters: one mixture serves the whole batch
        for name in ("loc", "scale", "logits"):
            setattr(new, name, getattr(self, name))
        super(NormalMixture, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """(*batch,) from (*batch, d)."""
        if self._validate_args:
            self._validate_sample(value)
        wide = self.loc.dtype if value.device.type == "mps" else torch.float64
        loc, scale, z = (each.to(wide) for each in (self.loc, self.scale, value))
        precision = scale.reciprocal().square()
        half_log = 0.5 * self.event_shape[0] * math.log(2 * math.pi)
        constant = self.log_weight - scale.log().sum(-1) - 0.5 * (loc.square() * precision).sum(-1) - half_log
        slopes = torch.cat([-0.5 * precision, loc * precision], -1)
        exponents = torch.nn.functional.linear(torch.cat([z.square(), z], -1), slopes, constant)
        # back to the narrow type first: the logarithm of the sum is the dear part, and nothing cancels in it
        log_prob = exponents.to(value.dtype).logsumexp(-1)
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    def following(self, before: Tensor) -> dist.Distribution:
        """(*batch,): the next number given those before it, (*batch, t): a mixture whose weights have seen
        them.
        """
        number, known = before.shape[-1], before.unsqueeze(-2).to(self.loc)
        terms = dist.Normal(self.loc[:, :number], self.scale[:, :number]).log_prob(known)
        logits = (self.log_weight + terms.sum(-1)).expand(*self.batch_shape, -1)
        component = dist.Normal(self.loc[:, number], self.scale[:, number]).expand(logits.shape)
        return _OfNumbers(dist.Categorical(logits=logits), component)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        chosen = dist.Categorical(logits=self.log_weight).sample(shape[:-1])
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc[chosen] + self.scale[chosen] * noise

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)


class _OfNumbers(dist.MixtureSameFamily):
    """A mixture of normal numbers, which says that its support is the line."""

    support = constraints.real
