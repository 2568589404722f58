"""The normal distribution on evenly spaced levels: what a little normal noise leaves of grey values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_vae.likelihoods.logistic_mixture import check
from ppl_vae.likelihoods.support import Levels, SupportChecked


class QuantisedNormal(SupportChecked, dist.TorchDistribution):
    r"""The levels 0, 1 / (levels - 1), ..., 1, as likely as the normal density there.

    .. math:: p(x = v_k) \propto \exp\left(-\frac{(v_k - \mathrm{loc})^2}{2 \, \mathrm{scale}^2}\right)

    the probabilities of all levels sum to one, exactly; with two levels it is a Bernoulli distribution.

    Args:
        loc, scale: (*batch), in the data's units.
        levels: number of levels.
        validate_args: as everywhere in torch.distributions.

    Kingma, Salimans, Poole and Ho, Variational Diffusion Models, arXiv:2107.00630, equation 9.
    """

    arg_constraints = {  # noqa: RUF012 (torch's own protocol)
        "loc": constraints.real,
        "scale": constraints.positive,
    }

    def __init__(
        self, loc: Tensor, scale: Tensor, levels: int = 256, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return Levels(self.levels)

    def check(self, x: Tensor) -> None:
        check(x, self.levels)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> QuantisedNormal:
        new: QuantisedNormal = self._get_checked_instance(QuantisedNormal, _instance)
        new.loc, new.scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        new.levels = self.levels
        super(QuantisedNormal, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def _values(self) -> Tensor:
        return torch.arange(self.levels, dtype=self.loc.dtype, device=self.loc.device) / (self.levels - 1)

    @property
    def logits(self) -> Tensor:
        """(*batch, levels): the log-probabilities."""
        away = (self._values - self.loc.unsqueeze(-1)) / self.scale.unsqueeze(-1)
        return (-0.5 * away.square()).log_softmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        index = (value.to(self.loc.dtype) * (self.levels - 1)).round().long().expand(shape).unsqueeze(-1)
        return self.logits.expand(*shape, self.levels).gather(-1, index).squeeze(-1)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self._values[dist.Categorical(logits=self.logits).sample(torch.Size(sample_shape))]

    @property
    def mean(self) -> Tensor:
        return (self.logits.exp() * self._values).sum(-1)

    @property
    def variance(self) -> Tensor:
        away = self._values - self.mean.unsqueeze(-1)
        return (self.logits.exp() * away.square()).sum(-1)
