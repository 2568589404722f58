"""The linear-Gaussian oracle's posterior, also given some of the data alone, and guides that miss it."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.testing import oracles


def linear_gaussian(scale: float = 1.0, shift: float = 0.0, data: int = 6):
    """The oracle with its guide's scale times `scale` and mean plus `shift`, and as many data."""
    oracle = oracles.linear_gaussian()
    with torch.no_grad():
        oracle.pair.guide.lower.mul_(scale)
        oracle.pair.guide.offset.add_(shift)
    generator = torch.Generator().manual_seed(3)
    return oracle, 1.5 * torch.randn(data, 2, generator=generator, dtype=torch.float64)


@torch.no_grad()
def exact_posterior(model, x: Tensor, observed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean (B, 2) and covariance (B, 2, 2) of z given the observed entries of x."""
    seen = torch.ones_like(x) if observed is None else observed.to(x)
    precision = (-2 * model.log_scale).exp()
    weights = model.weight * seen.unsqueeze(-1)  # (B, 2, 2)
    covariance = torch.linalg.inv(torch.eye(2, dtype=x.dtype) + precision * weights.mT @ weights)
    residual = ((x - model.bias) * seen).unsqueeze(-1)
    return (precision * covariance @ weights.mT @ residual).squeeze(-1), covariance


def assert_matches(draws: Tensor, mean: Tensor, covariance: Tensor, size: float, factor: float = 3.5):
    """Draws (S, B, D) worth `size` independent ones have this mean and covariance, in standard errors."""
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    error = (draws.mean(0) - mean) / (variance / size).sqrt()
    assert float(error.abs().max()) < factor + 1, error  # the largest of some dozens
    assert float(error.square().mean()) < 2.0, error
    centred = draws - draws.mean(0)
    found = torch.einsum("sbi,sbj->bij", centred, centred) / (len(draws) - 1)
    spread = (variance.unsqueeze(-1) * variance.unsqueeze(-2) + covariance.square()) / size
    error = (found - covariance) / spread.sqrt()
    assert float(error.abs().max()) < factor + 1, error
    assert float(error.square().mean()) < 2.0, error
