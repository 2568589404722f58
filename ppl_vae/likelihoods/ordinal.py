"""The ordinal likelihood: one of several levels that have an order, and no distances."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppl_vae.likelihoods.categorical import CLAMP, CategoricalDistribution
from ppl_vae.likelihoods.raw import (
    check_columns,
    check_event_dim,
    check_num_columns,
    single,
    solve_increasing,
    stacked_shape,
)
from ppl_vae.likelihoods.support import require
from ppl_vae.nets.scale import positive_scale

NARROWEST, WIDEST = 1e-3, 1e3  # of the distance between two thresholds, in units of that at the start


def check(x: Tensor, num_levels: int) -> None:
    """Raise unless the data are levels."""
    valid = (x >= 0) & (x < num_levels) & (x == x.round())
    if bool(valid.all()):
        return
    if bool((x >= num_levels).any()):
        fix = f"raise num_levels to {int(x[torch.isfinite(x)].max().item()) + 1} or more, or re-number"
    else:
        fix = "number the levels 0, 1, 2, ... in their order"
    require("Ordinal", valid, x, f"a level 0, 1, ..., {num_levels - 1}", fix)


class OrdinalDistribution(CategoricalDistribution):
    """A categorical distribution over the levels, whose mean is the expected level."""

    ordered = True

    def check(self, x: Tensor) -> None:
        check(x, self._num_events)


class Ordinal(nn.Module):
    r"""Ordered levels 0, ..., L - 1: a location per output that is cut at L - 1 learned thresholds.

    .. math:: P(x_d \le l \mid z) = \sigma(c_l - m_d), \qquad c_0 < c_1 < \dots < c_{L-2}

    The cumulative logit (proportional odds): a larger location m makes all higher levels likelier, and the
    distances between the levels are learned. A level's probability is computed as

    .. math:: \log P(x = l) = \log\bigl(1 - e^{c_{l-1} - c_l}\bigr) + \log\sigma(c_l - m)
        + \log\sigma(m - c_{l-1}),

    which is exact for any m. Training starts with thresholds that give all levels the same probability at
    m = 0.

    Raw layout: the locations m, of the shape of the data. Support: 0, 1, ..., L - 1, stored as floats or
    integers; samples are integers (long). The mean is the expected level.

    McCullagh, Regression Models for Ordinal Data, Journal of the Royal Statistical Society B 42, 1980.

    Args:
        num_levels: the number of levels L, at least 2.
        event_dim: number of dims of one datum: 3 for images, 1 for vectors.
        num_columns: thresholds for all outputs alike (1), or those of each column of a vector.

    Raises:
        ValueError: for fewer than two levels; from `check`, and from `log_prob` when validation is on, for
            data that is no level.

    >>> p = Ordinal(num_levels=4, event_dim=1)(torch.zeros(2))
    >>> p.base_dist.probs.detach()[0], p.mean.detach()
    (tensor([0.2500, 0.2500, 0.2500, 0.2500]), tensor([1.5000, 1.5000]))
    """

    initial: Tensor

    def __init__(self, num_levels: int, event_dim: int = 3, num_columns: int = 1) -> None:
        super().__init__()
        check_event_dim("Ordinal", event_dim)
        check_num_columns("Ordinal", num_columns, event_dim)
        if isinstance(num_levels, bool) or not isinstance(num_levels, int) or num_levels < 2:
            raise ValueError(f"likelihoods.Ordinal: num_levels must be at least 2, got {num_levels!r}")
        self.num_levels = num_levels
        self.event_dim = event_dim
        self.num_columns = num_columns
        shares = torch.arange(1, num_levels, dtype=torch.float64) / num_levels
        self.register_buffer("initial", torch.logit(shares).to(torch.get_default_dtype()), persistent=False)
        size = (num_columns, num_levels - 2) if num_columns > 1 else (num_levels - 2,)
        self.raw_gaps = nn.Parameter(torch.zeros(size)) if num_levels > 2 else None

    def forward(self, raw: Tensor) -> dist.Distribution:
        """The distribution of the data given the decoder's raw output, an event a datum."""
        location = single("Ordinal", raw, self.event_dim)
        if self.raw_gaps is not None:
            check_columns("Ordinal", location, self.raw_gaps, of_columns=2)
        thresholds, gaps = self._thresholds(location.dtype)
        below = thresholds - location.unsqueeze(-1)
        log_shares = F.pad(torch.log(-torch.expm1(-gaps)), (1, 1))
        logits = F.pad(F.logsigmoid(below), (0, 1)) + F.pad(F.logsigmoid(-below), (1, 0)) + log_shares
        return OrdinalDistribution(logits=logits).to_event(self.event_dim)

    def _thresholds(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The thresholds, `(L - 1,)` or one row a column, and the distances between them."""
        initial = self.initial.to(dtype)
        gaps = initial.diff()
        if self.raw_gaps is not None:
            gaps = gaps * positive_scale(self.raw_gaps.to(dtype), NARROWEST, WIDEST)
        # the location shifts them all, so that the first one needs no freedom of its own
        return initial[0] + F.pad(gaps.cumsum(-1), (1, 0)), gaps

    def raw_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The raw output has the shape of the data."""
        return stacked_shape("Ordinal", shape, 1, self.event_dim)

    def initial_bias(self, mean: Tensor) -> Tensor:
        """The location whose expected level is the data mean, which is clamped to the middle 80 %."""
        thresholds = self._thresholds(torch.float64)[0].detach().to(mean.device)

        def mean_at(location: Tensor) -> Tensor:
            return torch.sigmoid(location.unsqueeze(-1) - thresholds).sum(-1)

        top = self.num_levels - 1
        target = mean.clamp(CLAMP * top, (1 - CLAMP) * top)
        ends = 20 + float(thresholds.abs().max())
        return solve_increasing(mean_at, target, -ends, ends).to(mean.dtype)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the values that are no level."""
        check(x, self.num_levels)

    def extra_repr(self) -> str:
        return f"num_levels={self.num_levels}, event_dim={self.event_dim}"
