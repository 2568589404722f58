"""Factor analysis: a linear model with a noise for each output, whose evidence is known exactly."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn


class FactorAnalysis(nn.Module):
    r"""Factor analysis: probabilistic PCA whose noise differs between the outputs.

    .. math:: z \sim \mathcal{N}(0, I), \qquad x \mid z \sim \mathcal{N}(W z + b, \Psi), \quad
        \Psi = \mathrm{diag}(\psi_1^2, \ldots, \psi_D^2)

    Its evidence is N(b, W W' + Psi), and its posterior N(M^{-1} W' Psi^{-1} (x - b), M^{-1}) with
    M = I + W' Psi^{-1} W, so every bound can be held against the truth. Full covariance in the guide,
    `guides.FullRank(nets.MLPEncoder((D,), d, hidden=()))`, is the posterior's own family.

    Args:
        latent_dim: d, the number of factors.
        data_dim: D, the number of observed dimensions.
        noise: the initial psi of every output, positive; they are learned.

    Rubin and Thayer, EM Algorithms for ML Factor Analysis, 1982.

    >>> model = FactorAnalysis(latent_dim=2, data_dim=5)
    >>> x = torch.randn(7, 5)
    >>> model.log_evidence(x).shape, model.posterior(x).mean.shape
    (torch.Size([7]), torch.Size([7, 2]))
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
        self.log_scale = nn.Parameter(torch.full((data_dim,), math.log(noise)))

    def forward(self, x: Tensor) -> Any:
        """Draw z (d,) and x (D,) for each of the len(x) data."""
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            mean = nn.functional.linear(z, self.weight, self.bias)
            return pyro.sample("x", dist.Normal(mean, self.log_scale.exp()).to_event(1), obs=x)

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x), exactly: (*batch, D) -> (*batch,) nats."""
        variance = (2 * self.log_scale).exp()
        return dist.LowRankMultivariateNormal(self.bias, self.weight, variance).log_prob(x)

    def posterior(self, x: Tensor) -> dist.MultivariateNormal:
        """p(z | x), exactly: batch shape (*batch,), event shape (d,)."""
        scaled = self.weight * (-2 * self.log_scale).exp().unsqueeze(-1)
        identity = torch.eye(self.latent_dim, dtype=self.weight.dtype, device=self.weight.device)
        precision = identity + self.weight.T @ scaled
        loc = torch.linalg.solve(precision, ((x - self.bias) @ scaled).unsqueeze(-1)).squeeze(-1)
        return dist.MultivariateNormal(loc, precision_matrix=precision)
