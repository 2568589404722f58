"""The continuous Bernoulli likelihood: grey values in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppl_vae.likelihoods.raw import check_event_dim, single, solve_increasing, stacked_shape
from ppl_vae.likelihoods.support import SupportChecked, require

CLAMP = 0.05  # logits of about -20 and 20: the mean approaches its ends only as 1 / logit
NEAR = 0.5  # |logit| below which the series are used


def check(x: Tensor) -> None:
    """Raise unless the data lies in [0, 1]."""
    valid = (x >= 0) & (x <= 1)
    if bool(valid.all()):
        return
    negative = bool((x < 0).any())
    fix = "rescale it to [0, 1], or use likelihoods.Gaussian" if negative else "divide by 255"
    require("ContinuousBernoulli", valid, x, "in [0, 1]", fix)


def _split_at_zero(logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where |logit| is small; the logits there; their absolute values elsewhere; u^2 / 4 of the small."""
    near = logits.abs() < NEAR
    small = torch.where(near, logits, torch.zeros_like(logits))
    large = torch.where(near, torch.ones_like(logits), logits.abs())
    return near, small, large, small.square() / 4


def log_normaliser(logits: Tensor) -> Tensor:
    r"""log of the integral of exp(l x) over [0, 1]: log((exp(l) - 1) / l).

    Near 0 it is l/2 + log(sinh(l/2) / (l/2)) by its series, of error 1e-14; elsewhere
    max(l, 0) + log((1 - exp(-|l|)) / |l|), which neither cancels nor overflows.
    """
    near, small, large, v = _split_at_zero(logits)
    series = v * (1 / 6 - v * (1 / 180 - v * (1 / 2835 - v * (1 / 37800 - v / 467775))))
    exact = F.relu(logits) + torch.log(-torch.expm1(-large) / large)
    return torch.where(near, small / 2 + series, exact)


class ContinuousBernoulliDistribution(SupportChecked, dist.ContinuousBernoulli):
    """`pyro.distributions.ContinuousBernoulli` from logits, exact near 0 and at both ends.

    The one of torch goes through clamped probabilities: it switches to a Taylor series of the
    probability at 0.499 and 0.501, where float32 has already lost several digits, and stops at logits of 16.
    """

    def check(self, x: Tensor) -> None:
        check(x)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return value * self.logits - log_normaliser(self.logits)

    @property
    def mean(self) -> Tensor:
        near, small, large, v = _split_at_zero(self.logits)
        series = small * (1 / 12 - v * (1 / 180 - v * (1 / 1890 - v * (1 / 18900 - v / 187110))))
        exact = self.logits.sign() * (0.5 / torch.tanh(large / 2) - 1 / large)
        return 0.5 + torch.where(near, series, exact)

    @property
    def variance(self) -> Tensor:
        near, _, large, v = _split_at_zero(self.logits)
        series = 1 / 12 - v * (1 / 60 - v * (1 / 378 - v * (1 / 2700 - v / 20790)))
        decay = torch.exp(-large)
        return torch.where(near, series, large.pow(-2) - decay / torch.expm1(-large).square())

    def entropy(self) -> Tensor:
        return log_normaliser(self.logits) - self.logits * self.mean

    def cdf(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        near, small, large, _ = _split_at_zero(self.logits)
        x = torch.where(self.logits > 0, 1 - value, value).clamp(0, 1)
        exact = torch.expm1(-large * x) / torch.expm1(-large)
        tiny = small.abs() < 1e-6
        safe = torch.where(tiny, torch.ones_like(small), -small.abs())
        ratio = torch.expm1(safe * x) / torch.expm1(safe)
        lower = torch.where(near, torch.where(tiny, x, ratio), exact)
        return torch.where(self.logits > 0, 1 - lower, lower)

    def icdf(self, value: Tensor) -> Tensor:
        # By symmetry only the falling density is inverted: nothing overflows.
        slope = -self.logits.abs()
        u = torch.where(self.logits > 0, 1 - value, value)
        flat = slope > -0.02
        safe = torch.where(flat, -torch.ones_like(slope), slope)
        exact = torch.log1p(u * torch.expm1(safe)) / safe
        # The quotient's gradient would cancel near 0; this is its series in the slope.
        half = u * (1 - u) / 2
        series = u + slope * half * (1 + slope * (1 - 2 * u) / 3)
        x = torch.where(flat, series, exact).clamp(0, 1)
        return torch.where(self.logits > 0, 1 - x, x)


class ContinuousBernoulli(nn.Module):
    r"""Grey values in [0, 1], one logit per output: the normalised density in place of a cross-entropy.

    .. math:: \log p(x \mid z) = \sum_d x_d l_d - \log \frac{e^{l_d} - 1}{l_d}

    Raw layout: the logits l, of the shape of the data. Support: [0, 1]. The mean is
    1 / (1 - exp(-l)) - 1 / l, which is not sigmoid(l). It is a density: nats can be positive.

    Loaiza-Ganem and Cunningham, The continuous Bernoulli: fixing a pervasive error in variational
    autoencoders, arXiv:1907.06845.

    Args:
        event_dim: number of dims of one datum: 3 for images, 1 for vectors.

    Raises:
        ValueError: from `check`, and from `log_prob` when validation is on, for data outside [0, 1].

    >>> p = ContinuousBernoulli(event_dim=1)(torch.zeros(2))
    >>> p.log_prob(torch.tensor([0.2, 0.9])), p.mean
    (tensor(0.), tensor([0.5000, 0.5000]))
    """

    def __init__(self, event_dim: int = 3) -> None:
        super().__init__()
        check_event_dim("ContinuousBernoulli", event_dim)
        self.event_dim = event_dim

    def forward(self, raw: Tensor) -> dist.Distribution:
        """The distribution of the data given the decoder's raw output, an event a datum."""
        logits = single("ContinuousBernoulli", raw, self.event_dim)
        return ContinuousBernoulliDistribution(logits=logits).to_event(self.event_dim)

    def raw_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The raw output has the shape of the data."""
        return stacked_shape("ContinuousBernoulli", shape, 1, self.event_dim)

    def initial_bias(self, mean: Tensor) -> Tensor:
        """The logit whose mean is the data mean, clamped to [0.05, 0.95] (logits of about 20)."""

        def mean_at(logits: Tensor) -> Tensor:
            return ContinuousBernoulliDistribution(logits=logits, validate_args=False).mean

        return solve_increasing(mean_at, mean.clamp(CLAMP, 1 - CLAMP), -50.0, 50.0).to(mean.dtype)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the values outside [0, 1]."""
        check(x)

    def extra_repr(self) -> str:
        return f"event_dim={self.event_dim}"
