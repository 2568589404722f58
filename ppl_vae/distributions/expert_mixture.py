"""A mixture of normals for each datum, in shares that are given: what several experts say, side by side."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import Categorical, Normal


class ExpertMixture(TorchDistribution):
    r"""A mixture of C diagonal normals, another one for each datum, with given weights.

    .. math:: q(z) = \sum_c w_c \prod_j \mathcal{N}(z_j; m_{cj}, s_{cj}^2)

    A draw takes a component by its weight and moves with that one's location and scale. Where the weights
    depend on nothing that is learned that is the whole gradient of an expectation, so that draws are
    reparameterised; with weights that need a gradient of their own they are not (`has_rsample`).

    Args:
        loc: m, (*batch, C, d).
        scale: s, of the same shape, positive.
        log_weight: log w, (*batch, C); minus infinity for a component that is left out.

    Raises:
        ValueError: for shapes that do not fit.

    >>> q = ExpertMixture(torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1), torch.tensor([0.5, 0.5]).log())
    >>> q.mean, q.variance, q.has_rsample
    (tensor([0.]), tensor([2.]), True)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
        "log_weight": constraints.real_vector,  # to which minus infinity belongs
    }
    support = constraints.real_vector

    def __init__(
        self, loc: Tensor, scale: Tensor, log_weight: Tensor, validate_args: bool | None = None
    ) -> None:
        if loc.dim() < 2 or loc.shape != scale.shape or log_weight.shape[-1:] != loc.shape[-2:-1]:
            shapes = [tuple(each.shape) for each in (loc, scale, log_weight)]
            raise ValueError(f"loc and scale are (*batch, C, d) and log_weight (*batch, C), got {shapes}")
        batch = torch.broadcast_shapes(loc.shape[:-2], log_weight.shape[:-1])
        self.loc = loc.expand(*batch, *loc.shape[-2:])
        self.scale = scale.expand(*batch, *loc.shape[-2:])
        self.log_weight = log_weight.expand(*batch, -1)
        super().__init__(batch, loc.shape[-1:], validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether a draw's gradient is complete: that of the weights would be missing."""
        return not self.log_weight.requires_grad

    def expand(self, batch_shape: Any, _instance: Any = None) -> ExpertMixture:
        """The same distributions for a larger batch shape."""
        batch = torch.Size(batch_shape)
        return ExpertMixture(
            self.loc.expand(*batch, *self.loc.shape[-2:]),
            self.scale.expand(*batch, *self.loc.shape[-2:]),
            self.log_weight.expand(*batch, -1),
            validate_args=False,
        )

    @property
    def mean(self) -> Tensor:
        """(*batch, d)."""
        return (self.log_weight.exp().unsqueeze(-1) * self.loc).sum(-2)

    @property
    def variance(self) -> Tensor:
        """(*batch, d): within the components, and between them."""
        between = (self.loc - self.mean.unsqueeze(-2)).square()
        return (self.log_weight.exp().unsqueeze(-1) * (self.scale.square() + between)).sum(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """(*batch,) nats."""
        if self._validate_args:
            self._validate_sample(value)
        each = Normal(self.loc, self.scale, validate_args=False).log_prob(value.unsqueeze(-2)).sum(-1)
        return (each + self.log_weight).logsumexp(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, *batch, d)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        chosen = Categorical(logits=self.log_weight, validate_args=False).sample(torch.Size(sample_shape))
        index = chosen[..., None, None].expand(*shape[:-1], 1, shape[-1])
        loc, scale = (
            each.expand(*shape[:-1], *each.shape[-2:]).gather(-2, index).squeeze(-2)
            for each in (self.loc, self.scale)
        )
        return loc + scale * torch.randn_like(loc)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """The same without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape)
