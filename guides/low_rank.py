"""The low-rank guide: a multivariate normal whose covariance is diagonal plus a few directions."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.nets import Encoder


class LowRank(nn.Module):
    r"""A normal posterior between mean field and full rank: R directions beside the diagonal.

    .. math:: q(z \mid x) = \mathcal{N}\bigl(\mathrm{loc}, S (I + W W^\top) S\bigr), \qquad
        S = \mathrm{diag}(\mathrm{scale})

    W(x), (latent_dim, R), is a linear function of the encoder's features that starts small and constant,
    so that training begins near the mean-field guide.

    Args:
        encoder: its `trunk` maps x to features, its `head` the features to (loc, scale).
        rank: R, at least 1.

    Raises:
        ValueError: for a rank below 1.
    """

    def __init__(self, encoder: Encoder, rank: int = 2) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}: guides.MeanField is the guide of rank 0")
        self.encoder = encoder
        self.rank = rank
        self.factor = nn.Linear(encoder.num_features, encoder.latent_dim * rank)
        with torch.no_grad():
            self.factor.weight.zero_()
            # not zero, where every direction is as good as its opposite and none has a gradient
            self.factor.bias.normal_(std=0.1 / math.sqrt(rank))

    def posterior(self, x: Tensor) -> dist.LowRankMultivariateNormal:
        """q(z | x), batch shape (*batch,), event shape (latent_dim,)."""
        features = self.encoder.trunk(x)
        loc, scale = self.encoder.head(features)
        factor = self.factor(features).to(loc.dtype).unflatten(-1, (loc.shape[-1], self.rank))
        return dist.LowRankMultivariateNormal(loc, scale.unsqueeze(-1) * factor, scale.square())

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        posterior = self.posterior(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", posterior)
