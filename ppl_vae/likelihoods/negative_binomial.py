"""The negative binomial likelihood: counts that vary more than a Poisson's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppl_vae.likelihoods.poisson import CLAMP, is_count, log_rate
from ppl_vae.likelihoods.raw import (
    check_event_dim,
    check_num_columns,
    check_option,
    compact,
    learned,
    locate,
    stacked_shape,
    with_neutral,
)
from ppl_vae.likelihoods.support import SupportChecked, count_fix, require

STIRLING = 8.0  # from here on the remainder's four terms below are exact to 6e-12


def check(x: Tensor) -> None:
    """Raise unless the data are counts."""
    valid = is_count(x)
    if not bool(valid.all()):
        require("NegativeBinomial", valid, x, "counts 0, 1, 2, ...", count_fix(x))


def log_rising(r: Tensor, x: Tensor) -> Tensor:
    r"""log(Gamma(r + x) / Gamma(r)).

    For large r the two lgammas are huge and nearly equal: in float32 their difference has an error of
    1e-2 at r = 1e4 and no digit left at r = 1e8. Stirling's formula gives the difference directly,

        (r - 1/2) log(1 + x / r) + x log(r + x) - x + d(r + x) - d(r),

    where d is the remainder of the series.
    """
    direct = torch.lgamma(r + x) - torch.lgamma(r)
    big = r.clamp(min=STIRLING)
    series = (big - 0.5) * torch.log1p(x / big) + x * torch.log(big + x) - x
    series = series + _remainder(big + x) - _remainder(big)
    return torch.where(r < STIRLING, direct, series)


def _remainder(z: Tensor) -> Tensor:
    w = z.square().reciprocal()
    return (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w / 1680))) / z


class NegativeBinomialDistribution(SupportChecked, dist.NegativeBinomial):
    """`pyro.distributions.NegativeBinomial` that stays exact on its way to a Poisson."""

    def check(self, x: Tensor) -> None:
        check(x)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        value = value.to(self.logits.dtype)
        total_count = compact(self.total_count)
        coefficient = log_rising(total_count, value) - torch.lgamma(value + 1)
        log_odds = self.logits
        return coefficient + value * log_odds - (total_count + value) * F.softplus(log_odds)


class NegativeBinomial(nn.Module):
    r"""Counts with a mean per output and a total count that is fixed, learned or per output.

    .. math:: \log p(x \mid z) = \sum_d \log \frac{\Gamma(x_d + r_d)}{x_d! \, \Gamma(r_d)}
        + r_d \log \frac{r_d}{r_d + m_d} + x_d \log \frac{m_d}{r_d + m_d}

    The mean is m = exp(raw) and the variance m + m^2 / r: r to infinity is the Poisson, and 1 / r is often
    called the dispersion.

    Raw layout: the log-means, of the shape of the data; with `total_count="per_output"` the raw total
    counts follow along the first event dim, `(2C, H, W)`; `positive_scale` makes them positive, 1 at raw
    value 0. Support: 0, 1, 2, ... as floats or integers.

    Lopez, Regier, Cole, Jordan and Yosef, A deep generative model for gene expression profiles from
    single-cell RNA sequencing, arXiv:1709.02082.

    Args:
        total_count: a positive number to fix r, "learned" for one learned r for all outputs, or
            "per_output" for one r per output from the decoder.
        min_total_count: floor of a learned or per-output total count.
        max_total_count: cap of a learned or per-output total count.
        event_dim: number of dims of one datum: 3 for images, 1 for vectors.
        num_columns: how many total counts are learned by "learned": one for all outputs, or one for each
            column of a vector.

    Raises:
        ValueError: for a bad option; from `check`, and from `log_prob` when validation is on, for data
            that is no count.

    >>> p = NegativeBinomial(total_count=2.0, event_dim=1)(torch.zeros(1))
    >>> p.mean, p.variance
    (tensor([1.]), tensor([1.5000]))
    """

    def __init__(
        self,
        total_count: float | Literal["learned", "per_output"] = "learned",
        min_total_count: float = 1e-3,
        max_total_count: float = 1e5,
        event_dim: int = 3,
        num_columns: int = 1,
    ) -> None:
        super().__init__()
        check_event_dim("NegativeBinomial", event_dim)
        check_num_columns("NegativeBinomial", num_columns, event_dim)
        check_option("NegativeBinomial", "total_count", total_count, min_total_count, max_total_count)
        self.total_count = total_count
        self.min_total_count = min_total_count
        self.max_total_count = max_total_count
        self.event_dim = event_dim
        self.num_columns = num_columns
        self.raw_total_count = learned(total_count, num_columns)

    def forward(self, raw: Tensor) -> dist.Distribution:
        """The distribution of the data given the decoder's raw output, an event a datum."""
        raw_mean, total_count = locate(
            "NegativeBinomial",
            raw,
            self.total_count,
            self.raw_total_count,
            self.min_total_count,
            self.max_total_count,
            self.event_dim,
        )
        logits = log_rate(raw_mean) - torch.log(total_count)
        return NegativeBinomialDistribution(total_count, logits=logits).to_event(self.event_dim)

    def raw_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the data, with twice the channels for a total count per output."""
        parameters = 2 if self.total_count == "per_output" else 1
        return stacked_shape("NegativeBinomial", shape, parameters, self.event_dim)

    def initial_bias(self, mean: Tensor) -> Tensor:
        """The logarithm of the data mean, clamped to at least 0.001; total counts per output start at 1."""
        return with_neutral(torch.log(mean.clamp(min=CLAMP)), self.total_count, self.event_dim)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the negative and the broken counts."""
        check(x)

    def extra_repr(self) -> str:
        return f"total_count={self.total_count!r}, event_dim={self.event_dim}"
