"""The scale of each datum's posterior, in which a sampler moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """The scale of each datum's posterior: u = scale v, with v of about unit covariance.

    Attributes:
        scale: (B, D) standard deviations, or (B, D, D) Cholesky factors.
    """

    scale: Tensor

    def from_white(self, v: Tensor) -> Tensor:
        """scale v, (K, B, D)."""
        if self.scale.dim() == 2:
            return self.scale * v
        return torch.einsum("bij,kbj->kbi", self.scale, v)

    def gradient(self, g: Tensor) -> Tensor:
        """The gradient along v, of one along u."""
        if self.scale.dim() == 2:
            return self.scale * g
        return torch.einsum("bij,kbi->kbj", self.scale, g)


def metric_of(draws: Tensor, full: bool = True) -> Metric:
    """The metric of some draws (S, B, D): their covariance's Cholesky factor, or their standard deviations.

    A covariance of few draws is drawn towards its diagonal.
    """
    count, _, size = draws.shape
    centred = draws.double() - draws.double().mean(0)
    variance = centred.square().sum(0) / max(count - 1, 1)
    floor = variance.amax(-1, keepdim=True).clamp_min(1e-12) * 1e-8
    variance = variance.clamp_min(floor)
    if not full or size == 1:
        return Metric(variance.sqrt().to(draws))
    covariance = torch.einsum("kbi,kbj->bij", centred, centred) / max(count - 1, 1)
    shrink = size / (size + count)
    covariance = (1 - shrink) * covariance + torch.diag_embed(shrink * variance + floor)
    return Metric(torch.linalg.cholesky(covariance).to(draws))
