"""The Poisson likelihood: counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppl_vae.likelihoods.raw import check_event_dim, single, stacked_shape
from ppl_vae.likelihoods.support import SupportChecked, count_fix, require

CLAMP = 1e-3  # a count that never occurs would need an infinite log-rate
LINEAR = 20.0  # the log-rate, half a billion, from which the rate grows linearly


def is_count(x: Tensor) -> Tensor:
    """Where the data is a finite non-negative whole number."""
    return torch.isfinite(x) & (x >= 0) & (x == x.round())


def log_rate(raw: Tensor) -> Tensor:
    """The identity up to 20, then 20 + log(1 + raw - 20).

    So the rate is exp(raw) for all that is ever counted, then goes on along its tangent: no output of a
    net overflows, and no gradient vanishes as it would behind a clamp.
    """
    return raw.clamp(max=LINEAR) + torch.log1p(F.relu(raw - LINEAR))


def check(x: Tensor) -> None:
    """Raise unless the data are counts."""
    valid = is_count(x)
    if not bool(valid.all()):
        require("Poisson", valid, x, "counts 0, 1, 2, ...", count_fix(x))


class PoissonDistribution(SupportChecked, dist.Poisson):
    """`pyro.distributions.Poisson` from the log-rate: exact also where the rate underflows to 0."""

    def __init__(self, log_rate: Tensor, validate_args: bool | None = None) -> None:
        self.log_rate = log_rate
        super().__init__(torch.exp(log_rate), validate_args=validate_args)

    def check(self, x: Tensor) -> None:
        check(x)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> PoissonDistribution:
        new = self._get_checked_instance(PoissonDistribution, _instance)
        new.log_rate = self.log_rate.expand(torch.Size(batch_shape))
        new.is_sparse = self.is_sparse
        return super().expand(batch_shape, _instance=new)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        # log(x!) before it meets the particles: lgamma is dear, and (B, D) is smaller than (K, B, D).
        value = value.to(self.rate.dtype)
        return value * self.log_rate - self.rate - torch.lgamma(value + 1)


class Poisson(nn.Module):
    r"""Counts, one log-rate per output.

    .. math:: \log p(x \mid z) = \sum_d x_d \log r_d - r_d - \log x_d!, \qquad r_d = e^{\mathrm{raw}_d}

    Raw layout: the log-rates, of the shape of the data (from 20 on the rate continues linearly). Support:
    0, 1, 2, ... as floats or integers. The mean is r.

    Sussillo, Jozefowicz, Abbott and Pandarinath, LFADS - Latent Factor Analysis via Dynamical Systems,
    arXiv:1608.06315 (spike counts).

    Args:
        event_dim: number of dims of one datum: 3 for images, 1 for vectors.

    Raises:
        ValueError: from `check`, and from `log_prob` when validation is on, for data that is no count.

    >>> p = Poisson(event_dim=1)(torch.zeros(3))
    >>> p.log_prob(torch.tensor([0.0, 1.0, 1.0])), p.mean
    (tensor(-3.), tensor([1., 1., 1.]))
    """

    def __init__(self, event_dim: int = 3) -> None:
        super().__init__()
        check_event_dim("Poisson", event_dim)
        self.event_dim = event_dim

    def forward(self, raw: Tensor) -> dist.Distribution:
        """The distribution of the data given the decoder's raw output, an event a datum."""
        raw = single("Poisson", raw, self.event_dim)
        return PoissonDistribution(log_rate(raw)).to_event(self.event_dim)

    def raw_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The raw output has the shape of the data."""
        return stacked_shape("Poisson", shape, 1, self.event_dim)

    def initial_bias(self, mean: Tensor) -> Tensor:
        """The logarithm of the data mean, clamped to at least 0.001."""
        return torch.log(mean.clamp(min=CLAMP))

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the negative and the broken counts."""
        check(x)

    def extra_repr(self) -> str:
        return f"event_dim={self.event_dim}"
