"""MovingAverage: what an estimator remembers of its rewards."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage(nn.Module):
    """The exponentially weighted mean of the scalars, or rows of numbers, it was shown; 0 before the first.

    Args:
        decay: the share of the past, in [0, 1).

    Raises:
        ValueError: when decay is outside [0, 1).
    """

    mean: Tensor
    weight: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay!r}")
        self.decay = decay
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self) -> Tensor:
        # the weight takes out the start at zero, as Adam's bias correction does
        return self.mean / self.weight.clamp_min(1e-30)

    def of_length(self, count: int) -> MovingAverage:
        """The same, of rows of `count` numbers, a scalar for one; it forgets what it was shown of others."""
        shape = () if count == 1 else (count,)
        if self.mean.shape != shape:
            self.mean, self.weight = self.mean.new_zeros(shape), self.weight.new_zeros(())
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        saved = state_dict.get(f"{prefix}mean")
        if isinstance(saved, Tensor) and saved.dim() < 2:
            self.of_length(saved.numel() if saved.dim() else 1)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.no_grad()
    def add(self, value: Tensor) -> None:
        """Take a scalar or a row in; in place, so that a captured step sees it."""
        self.mean.lerp_(value.to(self.mean), 1 - self.decay)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)
