"""The log-normal likelihood: positive data whose logarithm is normal."""

from __future__ import annotations

import math
from typing import Literal

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.likelihoods.location_scale import LocationScale
from ppl_vae.likelihoods.poisson import CLAMP
from ppl_vae.likelihoods.raw import compact, with_neutral
from ppl_vae.likelihoods.support import SupportChecked, require
from ppl_vae.nets.scale import positive_scale


def check(x: Tensor) -> None:
    """Raise unless the data are positive and finite."""
    fix = "use likelihoods.Gaussian for real data; zeros among amounts are a column of their own"
    require("LogNormal", torch.isfinite(x) & (x > 0), x, "positive", fix)


class LogNormalDistribution(SupportChecked, dist.LogNormal):
    """`pyro.distributions.LogNormal` whose draws stay inside the support, and are drawn once."""

    def check(self, x: Tensor) -> None:
        check(x)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008, as torch writes it
        drawn: Tensor = super().rsample(sample_shape)
        limits = torch.finfo(drawn.dtype)
        return drawn.clamp(limits.tiny, limits.max)  # the exponential of a number over- and underflows

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        scale, logarithm = compact(self.scale), torch.log(value)
        constant = -torch.log(scale) - 0.5 * math.log(2 * math.pi)
        normal = torch.addcmul(constant, (logarithm - self.loc).square(), -0.5 / scale.square())
        return normal - logarithm


class LogNormal(LocationScale):
    r"""Positive data: the logarithm has a location per output and a scale as `Gaussian` has it.

    .. math:: \log p(x \mid z) = \sum_d -\frac{(\log x_d - m_d)^2}{2 s_d^2} - \log s_d - \log x_d
        - \tfrac12 \log 2 \pi

    Raw layout: the locations m of the logarithm, of the shape of the data; with `scale="per_output"` the raw
    scales follow along the first event dim. Support: positive finite numbers. The mean is exp(m + s^2 / 2).
    It is a density: nats can be positive.

    Args:
        scale: a positive number to fix it, "learned" for one learned scale for all outputs, or
            "per_output" for one scale per output from the decoder. It is that of the logarithm.
        min_scale: floor of a learned or per-output scale.
        max_scale: cap of a learned or per-output scale; beyond some nats the mean is one of rare giants.
        event_dim: number of dims of one datum: 3 for images, 1 for vectors.
        num_columns: how many scales a "learned" scale is: one for all outputs, or one for each column of a
            vector.

    Raises:
        ValueError: for a bad option; from `check`, and from `log_prob` when validation is on, for data that
            is not positive.

    >>> p = LogNormal(scale=1.0, event_dim=1)(torch.zeros(2))
    >>> p.mean, p.log_prob(torch.ones(2))
    (tensor([1.6487, 1.6487]), tensor(-1.8379))
    """

    family = LogNormalDistribution

    def __init__(
        self,
        scale: float | Literal["learned", "per_output"] = "learned",
        min_scale: float = 1e-3,
        max_scale: float = 5.0,
        event_dim: int = 3,
        num_columns: int = 1,
    ) -> None:
        super().__init__(scale, min_scale, max_scale, event_dim, num_columns)

    def initial_bias(self, mean: Tensor) -> Tensor:
        """The location at which the mean, at least 0.001, is the data's; scales per output start at 1."""
        scale = mean.new_tensor(1.0 if isinstance(self.scale, str) else self.scale)
        if self.raw_scale is not None:
            scale = positive_scale(self.raw_scale.detach(), self.min_scale, self.max_scale).to(mean)
        location = torch.log(mean.clamp(min=CLAMP)) - scale.square() / 2
        return with_neutral(location, self.scale, self.event_dim)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the values that are not positive."""
        check(x)
