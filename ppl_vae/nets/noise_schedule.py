"""How noise grows with time in a diffusion, and the units in which data go into it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NoiseSchedule(nn.Module):
    r"""The level of noise at a time from 0 to 1, and the units of the data that it is added to.

    .. math:: \gamma(t) = -\log \mathrm{SNR}(t), \qquad z_t = \alpha_t \, (x - \mathrm{shift}) \,
        \mathrm{factor} + \sigma_t \, \epsilon, \qquad
        \alpha_t^2 = \mathrm{sigmoid}(-\gamma(t)) = 1 - \sigma_t^2

    gamma rises from `gamma_min` to `gamma_max`: on a line, or, with `num_units`, along a learned monotone
    curve that keeps both ends exactly. Of the bound of a model in continuous time the ends are all that
    counts; where the steps are few, the curve counts too.

    Shapes: times of any shape to as many levels. Model and guide share one.

    Args:
        gamma_min, gamma_max: the levels at time 0 and 1; where the ends are learned, the first ones.
        shift, factor: images in [0, 1] go in as numbers from -1 to 1 with 0.5 and 2.
        learned: learn the two ends.
        num_units: sigmoids of which the curve is made; 0 for a line.

    Raises:
        ValueError: for levels that do not rise, a factor of 0, or a negative number of units.

    Kingma, Salimans, Poole and Ho, Variational Diffusion Models, arXiv:2107.00630, appendix H.

    >>> NoiseSchedule()(torch.tensor([0.0, 0.5, 1.0]))
    tensor([-13.3000,  -4.1500,   5.0000])
    """

    def __init__(
        self,
        gamma_min: float = -13.3,
        gamma_max: float = 5.0,
        shift: float = 0.0,
        factor: float = 1.0,
        learned: bool = False,
        num_units: int = 0,
    ) -> None:
        super().__init__()
        if not -math.inf < gamma_min < gamma_max < math.inf:
            raise ValueError(f"the noise must grow: gamma_min < gamma_max, got {gamma_min} and {gamma_max}")
        if not math.isfinite(shift) or not math.isfinite(factor) or factor <= 0:
            raise ValueError(f"shift must be finite and factor positive, got {shift!r} and {factor!r}")
        if isinstance(num_units, bool) or not isinstance(num_units, int) or num_units < 0:
            raise ValueError(f"num_units must be a whole number from 0 (a line), got {num_units!r}")
        self.gamma_min, self.gamma_max = gamma_min, gamma_max
        self.shift, self.factor = shift, factor
        self.learned, self.num_units = learned, num_units
        self.ends = nn.Parameter(torch.tensor([gamma_min, math.log(gamma_max - gamma_min)]), learned)
        if num_units:
            # places over all of [0, 1], each sigmoid a step as wide as the place between two of them
            self.raw_height = nn.Parameter(torch.full((num_units,), -3.0))
            self.raw_width = nn.Parameter(torch.full((num_units,), math.log(float(num_units) + 1)))
            self.place = nn.Parameter((torch.arange(num_units) + 0.5) / num_units)

    def forward(self, time: Tensor) -> Tensor:
        """gamma, of the shape of `time`, from 0 to 1."""
        low, span = self.ends[0], self.ends[1].exp()
        if not self.num_units:
            return low + span * time
        start, end = self._curve(torch.zeros_like(self.ends[0])), self._curve(torch.ones_like(self.ends[0]))
        return low + span * (self._curve(time) - start) / (end - start)

    def slope(self, time: Tensor) -> Tensor:
        """The derivative of gamma, of the shape of `time`; positive."""
        span = self.ends[1].exp()
        if not self.num_units:
            return span.expand_as(time)
        start, end = self._curve(torch.zeros_like(self.ends[0])), self._curve(torch.ones_like(self.ends[0]))
        width = self.raw_width.exp()
        step = torch.sigmoid(width * (time.unsqueeze(-1) - self.place))
        risen = 1 + (F.softplus(self.raw_height) * width * step * (1 - step)).sum(-1)
        return span * risen / (end - start)

    def embed(self, x: Tensor) -> Tensor:
        """Data in the units of the diffusion."""
        return (x - self.shift) * self.factor

    def _curve(self, time: Tensor) -> Tensor:
        step = torch.sigmoid(self.raw_width.exp() * (time.unsqueeze(-1) - self.place))
        return time + (F.softplus(self.raw_height) * step).sum(-1)
