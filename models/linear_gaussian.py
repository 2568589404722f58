"""Probabilistic PCA: the linear-Gaussian model, whose evidence and posterior are known exactly."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn


class LinearGaussian(nn.Module):
    r"""Probabilistic principal component analysis.

    .. math:: z \sim \mathcal{N}(0, I), \qquad x \mid z \sim \mathcal{N}(W z + b, \sigma^2 I)

    Its evidence is N(b, W W' + sigma^2 I) and its posterior N(M^{-1} W' (x - b), sigma^2 M^{-1}) with
    M = W' W + sigma^2 I, so every bound can be held against the truth.

    Args:
        latent_dim: d, the number of latent dimensions.
        data_dim: D, the number of observed dimensions.
        noise: the initial sigma, positive; it is learned.

    Tipping and Bishop, Probabilistic Principal Component Analysis, 1999.
    """

    def __init__(self, latent_dim: int, data_dim: int, noise: float = 1.0) -> None:
        super().__init__()
        if noise <= 0:
            raise ValueError(f"noise must be positive, got {noise}")
        self.latent_dim = latent_dim
        self.data_dim = data_dim
        self.noise = noise
        self.weight = nn.Parameter(torch.randn(data_dim, latent_dim) / math.sqrt(latent_dim))
        self.bias = nn.Parameter(torch.zeros(data_dim))
        self.log_scale = nn.Parameter(torch.tensor(math.log(noise)))

    def forward(self, x: Tensor) -> Any:
        """Draw z (d,) and x (D,) for each of the len(x) data."""
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            mean = nn.functional.linear(z, self.weight, self.bias)
            return pyro.sample("x", dist.Normal(mean, self.log_scale.exp()).to_event(1), obs=x)

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x), exactly: (*batch, D) -> (*batch,) nats."""
        variance = (2 * self.log_scale).exp().expand(self.data_dim)
        return dist.LowRankMultivariateNormal(self.bias, self.weight, variance).log_prob(x)

    def posterior(self, x: Tensor) -> dist.MultivariateNormal:
        """p(z | x), exactly: batch shape (*batch,), event shape (d,)."""
        identity = torch.eye(self.latent_dim, dtype=self.weight.dtype, device=self.weight.device)
        precision = identity + self.weight.T @ self.weight * (-2 * self.log_scale).exp()
        projected = (x - self.bias) @ self.weight * (-2 * self.log_scale).exp()
        loc = torch.linalg.solve(precision, projected.unsqueeze(-1)).squeeze(-1)
        return dist.MultivariateNormal(loc, precision_matrix=precision)
