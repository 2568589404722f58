"""Likelihoods with a location per output and a scale that is fixed, learned or per output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.likelihoods.raw import (
    check_event_dim,
    check_num_columns,
    check_option,
    learned,
    locate,
    stacked_shape,
    with_neutral,
)
from ppl_vae.likelihoods.support import MISSING, require


def check_finite(name: str, x: Tensor) -> None:
    """Raise unless the data is finite."""
    require(name, torch.isfinite(x), x, "finite", MISSING)


class LocationScale(nn.Module):
    """What `Gaussian` and `Laplace` share: all but the density; see there for the arguments."""

    family: ClassVar[Callable[..., Any]]
    """The distribution of (loc, scale)."""

    def __init__(
        self,
        scale: float | Literal["learned", "per_output"] = "learned",
        min_scale: float = 1e-3,
        max_scale: float = 1e2,
        event_dim: int = 3,
        num_columns: int = 1,
    ) -> None:
        super().__init__()
        check_event_dim(type(self).__name__, event_dim)
        check_num_columns(type(self).__name__, num_columns, event_dim)
        check_option(type(self).__name__, "scale", scale, min_scale, max_scale)
        self.scale = scale
        self.min_scale = min_scale
        self.max_scale = max_scale
        self.event_dim = event_dim
        self.num_columns = num_columns
        self.raw_scale = learned(scale, num_columns)

    def forward(self, raw: Tensor) -> dist.Distribution:
        """The distribution of the data given the decoder's raw output, an event a datum."""
        loc, scale = locate(
            type(self).__name__,
            raw,
            self.scale,
            self.raw_scale,
            self.min_scale,
            self.max_scale,
            self.event_dim,
        )
        return type(self).family(loc, scale).to_event(self.event_dim)

    def raw_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the data, with twice the channels for a scale per output."""
        parameters = 2 if self.scale == "per_output" else 1
        return stacked_shape(type(self).__name__, shape, parameters, self.event_dim)

    def initial_bias(self, mean: Tensor) -> Tensor:
        """The data mean itself; scales per output start at 1."""
        return with_neutral(mean, self.scale, self.event_dim)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that counts NaN and infinity as outside the support."""
        check_finite(type(self).__name__, x)

    def extra_repr(self) -> str:
        return f"scale={self.scale!r}, min_scale={self.min_scale:g}, event_dim={self.event_dim}"
