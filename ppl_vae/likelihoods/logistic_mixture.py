"""The discretised mixture of logistics: ordered levels such as 8-bit grey values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import constraints

from ppl_vae.likelihoods.raw import check_event_dim, solve_increasing, split, stacked_shape
from ppl_vae.likelihoods.support import Levels, SupportChecked, require
from ppl_vae.nets.scale import positive_scale

CLAMP = 1e-3  # a mean of exactly 0 or 1 would need an infinite location
MAX_SCALE = 50.0  # fifty times the width of the data: flat


def check(x: Tensor, levels: int) -> None:
    """Raise unless the data lies on the levels."""
    valid = Levels(levels).check(x)
    if bool(valid.all()):
        return
    top = levels - 1
    if bool((x > 1).any()):
        fix = f"divide by {top}"
    elif bool((x < 0).any()):
        fix = "rescale it to [0, 1]"
    else:
        fix = (
            f"round to the nearest level, (x * {top}).round() / {top}, or set levels to the data's own number"
        )
    require("DiscretisedLogisticMixture", valid, x, f"one of 0, 1/{top}, ..., {top}/{top}", fix)


class DiscretisedLogisticMixtureDistribution(SupportChecked, dist.TorchDistribution):
    r"""A mixture of logistics, rounded to the nearest of evenly spaced levels in [0, 1].

    Args:
        logits: mixture logits, `(*batch, num_mixtures)`.
        loc: locations in the data's units, of the same shape.
        scale: scales in the data's units, of the same shape.
        levels: number of levels.
        validate_args: as everywhere in torch.distributions.
    """

    arg_constraints = {  # noqa: RUF012 (torch's own protocol)
        "logits": constraints.real_vector,
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
    }

    def __init__(
        self,
        logits: Tensor,
        loc: Tensor,
        scale: Tensor,
        levels: int = 256,
        validate_args: bool | None = None,
    ) -> None:
        self.logits, self.loc, self.scale = torch.broadcast_tensors(logits, loc, scale)
        self.levels = levels
        super().__init__(self.loc.shape[:-1], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return Levels(self.levels)

    def check(self, x: Tensor) -> None:
        check(x, self.levels)

    def expand(
        self, batch_shape: Sequence[int], _instance: Any = None
    ) -> DiscretisedLogisticMixtureDistribution:
        new = self._get_checked_instance(DiscretisedLogisticMixtureDistribution, _instance)
        shape = (*batch_shape, self.loc.shape[-1])
        new.logits, new.loc, new.scale = (
            tensor.expand(shape) for tensor in (self.logits, self.loc, self.scale)
        )
        new.levels = self.levels
        super(DiscretisedLogisticMixtureDistribution, new).__init__(
            torch.Size(batch_shape), validate_args=False
        )
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        top = self.levels - 1
        # Counted in levels the bins' edges are exact, and each is shared by its two neighbours to the
        # last bit: the probabilities tile.
        level = (value.to(self.loc.dtype) * top).round().unsqueeze(-1)
        loc, sharpness = self.loc * top, 1 / (self.scale * top)
        upper = (level + 0.5 - loc) * sharpness
        lower = (level - 0.5 - loc) * sharpness
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)) exactly, and a - b is the
        # sharpness: nothing cancels, in no tail, so no approximation for small bins is needed.
        width = torch.log(-torch.expm1(-sharpness))
        # The first level takes all that lies below it and the last all that lies above.
        first, last = level <= 0, level >= top
        below_upper = F.logsigmoid(upper).masked_fill(last, 0)
        above_lower = F.logsigmoid(-lower).masked_fill(first, 0)
        inside = below_upper + above_lower + torch.where(first | last, torch.zeros_like(width), width)
        return torch.logsumexp(torch.log_softmax(self.logits, -1) + inside, -1)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        with torch.no_grad():
            shape = (*sample_shape, *self.loc.shape)
            logits = self.logits.expand(shape)
            waiting = torch.empty_like(logits, memory_format=torch.contiguous_format).exponential_()
            chosen = (logits - waiting.log()).argmax(-1, keepdim=True)  # Gumbel's trick
            loc = self.loc.expand(shape).gather(-1, chosen).squeeze(-1)
            scale = self.scale.expand(shape).gather(-1, chosen).squeeze(-1)
            x = loc + scale * torch.logit(torch.rand_like(loc))
            top = self.levels - 1
            return (x * top).round().clamp(0, top) / top

    def _moments(self) -> tuple[Tensor, Tensor]:
        """E[k] and E[k^2] of the level k, exact, in memory that does not grow with the levels."""
        top = self.levels - 1
        weights = torch.softmax(self.logits, -1)
        loc, sharpness = self.loc * top, 1 / (self.scale * top)
        first = torch.zeros_like(loc[..., 0])
        second = torch.zeros_like(first)
        for level in range(1, self.levels):
            reached = (weights * torch.sigmoid((loc - (level - 0.5)) * sharpness)).sum(-1)
            first = first + reached
            second = second + (2 * level - 1) * reached
        return first, second

    @property
    def mean(self) -> Tensor:
        return self._moments()[0] / (self.levels - 1)

    @property
    def variance(self) -> Tensor:
        first, second = self._moments()
        return (second - first.square()) / (self.levels - 1) ** 2


class DiscretisedLogisticMixture(nn.Module):
    r"""Levels 0, 1/255, ..., 1 under a mixture of rounded logistics, independent for each sub-pixel.

    .. math:: p(x_d = k / \mathrm{top} \mid z) = \sum_m w_m
        \Bigl[ \sigma\Bigl(\frac{k + \frac12 - a_m}{s_m}\Bigr)
        - \sigma\Bigl(\frac{k - \frac12 - a_m}{s_m}\Bigr) \Bigr]

    with top = levels - 1 and a, s counted in levels. The first level also takes everything below it and the
    last everything above, so the probabilities of the levels sum to 1.

    Raw layout: `(3 * num_mixtures * C, H, W)`: mixture logits for all components, then raw locations, then
    raw scales. In the data's units the location is (1 + raw) / 2, so that raw -1 ... 1 covers the data as in
    the paper, and the scale positive_scale(raw) / 2, which is 1/2 at raw 0. Support: multiples of
    1 / (levels - 1) in [0, 1], as floats. The mean is exact and costs `levels` passes.

    Unlike the paper's, the colours of one pixel are independent given z.

    Salimans, Karpathy, Chen and Kingma, PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture
    Likelihood and Other Modifications, arXiv:1701.05517.

    Args:
        num_mixtures: number of logistics per sub-pixel.
        levels: number of levels of the data, 256 for 8 bits.
        min_scale: floor of the logistics' scale, in the data's units.
        event_dim: number of dims of one datum: 3 for images, 1 for vectors.

    Raises:
        ValueError: for a bad option; from `check`, and from `log_prob` when validation is on, for data off
            the levels.

    >>> likelihood = DiscretisedLogisticMixture(num_mixtures=5)
    >>> likelihood.raw_shape((3, 32, 32))
    (45, 32, 32)
    """

    def __init__(
        self,
        num_mixtures: int = 10,
        levels: int = 256,
        min_scale: float = 5e-4,
        event_dim: int = 3,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_event_dim(name, event_dim)
        if num_mixtures < 1:
            raise ValueError(f"likelihoods.{name}: num_mixtures must be at least 1, got {num_mixtures}")
        if levels < 2:
            raise ValueError(f"likelihoods.{name}: levels must be at least 2, got {levels}")
        if not 0 < min_scale < 0.5:
            raise ValueError(f"likelihoods.{name}: needs 0 < min_scale < 0.5, got {min_scale!r}")
        self.num_mixtures = num_mixtures
        self.levels = levels
        self.min_scale = min_scale
        self.event_dim = event_dim

    def forward(self, raw: Tensor) -> dist.Distribution:
        """The distribution of the data given the decoder's raw output, an event a datum."""
        name = type(self).__name__
        # (*batch, 3M, C, ...) to three of (*batch, C, ..., M): the components come last.
        parameters = split(name, raw, 3 * self.num_mixtures, self.event_dim)
        logits, loc, scale = parameters.movedim(-self.event_dim - 1, -1).chunk(3, -1)
        return DiscretisedLogisticMixtureDistribution(
            logits,
            (1 + loc) / 2,
            positive_scale(scale, 2 * self.min_scale, 2 * MAX_SCALE) / 2,
            levels=self.levels,
        ).to_event(self.event_dim)

    def raw_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the data, with 3 * num_mixtures times the channels."""
        return stacked_shape(type(self).__name__, shape, 3 * self.num_mixtures, self.event_dim)

    def initial_bias(self, mean: Tensor) -> Tensor:
        """Equal components of scale 1/2, placed so that their mean is the data mean, clamped to [0.001,
        0.999].
        """

        def mean_at(raw_loc: Tensor) -> Tensor:
            loc = (1 + raw_loc.unsqueeze(-1)) / 2
            return DiscretisedLogisticMixtureDistribution(
                torch.zeros_like(loc),
                loc,
                torch.full_like(loc, 0.5),
                self.levels,
                validate_args=False,
            ).mean

        raw_loc = solve_increasing(mean_at, mean.clamp(CLAMP, 1 - CLAMP), -40.0, 40.0).to(mean.dtype)
        zero = torch.zeros_like(raw_loc)
        parts = [zero] * self.num_mixtures + [raw_loc] * self.num_mixtures + [zero] * self.num_mixtures
        return torch.cat(parts, dim=-self.event_dim)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the values off the levels."""
        check(x, self.levels)

    def extra_repr(self) -> str:
        return f"num_mixtures={self.num_mixtures}, levels={self.levels}, event_dim={self.event_dim}"
