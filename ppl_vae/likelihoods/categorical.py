"""The categorical likelihood: one of several classes, or grey levels without an order."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.likelihoods.raw import check_event_dim, solve_increasing, split, stacked_shape
from ppl_vae.likelihoods.support import SupportChecked, require

CLAMP = 0.1  # nearer to the ends the initial logits of far classes would take all training to undo


def check(x: Tensor, num_classes: int) -> None:
    """Raise unless the data are class indices."""
    valid = (x >= 0) & (x < num_classes) & (x == x.round())
    if bool(valid.all()):
        return
    if bool((x >= num_classes).any()):
        fix = f"raise num_classes to {int(x[torch.isfinite(x)].max().item()) + 1} or more, or re-index"
    elif bool((x < 0).any()):
        fix = "number the classes from 0"
    else:
        fix = f"give class indices, not grey values: (x * {num_classes - 1}).round()"
    require("Categorical", valid, x, f"a class index 0, 1, ..., {num_classes - 1}", fix)


class CategoricalDistribution(SupportChecked, dist.Categorical):
    """`pyro.distributions.Categorical` whose mean is the expected class index, where torch has NaN."""

    def check(self, x: Tensor) -> None:
        check(x, self._num_events)

    @property
    def mean(self) -> Tensor:
        index = torch.arange(self._num_events, dtype=self.probs.dtype, device=self.probs.device)
        return self.probs @ index

    @property
    def variance(self) -> Tensor:
        index = torch.arange(self._num_events, dtype=self.probs.dtype, device=self.probs.device)
        return self.probs @ index.square() - self.mean.square()


class Categorical(nn.Module):
    r"""Class indices, `num_classes` logits per output.

    .. math:: \log p(x \mid z) = \sum_d l_{d, x_d} - \log \sum_c e^{l_{d, c}}

    Raw layout: `(num_classes * C, H, W)`, the logits of class 0 for all channels first. Support: 0, 1, ...,
    num_classes - 1, stored as floats or integers; samples are integers (long).

    The mean is the expected class index sum_c c p_c. That is the picture to show when the classes are
    ordered (grey levels: divide by num_classes - 1); for classes without an order it means nothing, and
    `mode` of the distribution's `base_dist` is the one to show.

    van den Oord, Kalchbrenner and Kavukcuoglu, Pixel Recurrent Neural Networks (256-way softmax over grey
    levels), arXiv:1601.06759.

    Args:
        num_classes: number of classes, at least 2.
        event_dim: number of dims of one datum: 3 for images, 1 for vectors.

    Raises:
        ValueError: for fewer than two classes; from `check`, and from `log_prob` when validation is on, for
            data that is no class index.

    >>> likelihood = Categorical(num_classes=4)
    >>> likelihood.raw_shape((1, 8, 8))
    (4, 8, 8)
    >>> likelihood(torch.zeros(4, 8, 8)).mean[0, 0, 0]
    tensor(1.5000)
    """

    def __init__(self, num_classes: int, event_dim: int = 3) -> None:
        super().__init__()
        check_event_dim("Categorical", event_dim)
        if num_classes < 2:
            raise ValueError(f"likelihoods.Categorical: num_classes must be at least 2, got {num_classes}")
        self.num_classes = num_classes
        self.event_dim = event_dim

    def forward(self, raw: Tensor) -> dist.Distribution:
        """The distribution of the data given the decoder's raw output, an event a datum."""
        logits = split("Categorical", raw, self.num_classes, self.event_dim)
        logits = logits.movedim(-self.event_dim - 1, -1)
        return CategoricalDistribution(logits=logits).to_event(self.event_dim)

    def raw_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the data, with num_classes times the channels."""
        return stacked_shape("Categorical", shape, self.num_classes, self.event_dim)

    def initial_bias(self, mean: Tensor) -> Tensor:
        """Logits linear in the class index, whose mean is the data mean.

        That is the distribution of largest entropy with this mean. The mean is clamped to the middle
        80 % of 0 ... num_classes - 1.
        """
        top = self.num_classes - 1
        index = torch.arange(self.num_classes, dtype=torch.float64, device=mean.device)

        def mean_at(slope: Tensor) -> Tensor:
            return torch.softmax(slope.unsqueeze(-1) * index, -1) @ index

        slope = solve_increasing(mean_at, mean.clamp(CLAMP * top, (1 - CLAMP) * top), -10.0, 10.0)
        logits = slope.unsqueeze(-1) * (index - top / 2)
        # Class first, then channel: the layout of the raw output.
        stacked = logits.movedim(-1, -self.event_dim - 1)
        return stacked.flatten(-self.event_dim - 1, -self.event_dim).to(mean.dtype)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the values that are no class index."""
        check(x, self.num_classes)

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}, event_dim={self.event_dim}"
