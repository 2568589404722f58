"""The planar guide: a normal posterior bent along one direction after another."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae import transforms
from ppl_vae.nets import Encoder


class Planar(nn.Module):
    r"""A mean-field posterior through T planar transforms, whose parameters depend on x.

    .. math:: z_0 \sim \mathcal{N}(\mathrm{loc}, \mathrm{diag}\,\mathrm{scale}^2), \qquad
        z_t = z_{t-1} + \hat u_t \tanh(w_t^\top z_{t-1} + b_t), \qquad z = z_T

    w, u and b are linear functions of the encoder's features; u starts at zero, so that training begins at
    the mean-field guide. The density of a draw is exact and costs nothing more. Its density elsewhere, as
    `STL` and `DReG` need it, takes a bisection for each transform.

    Args:
        encoder: its `trunk` maps x to features, its `head` the features to (loc, scale).
        num_transforms: T.

    Rezende and Mohamed, Variational Inference with Normalizing Flows, arXiv:1505.05770.
    """

    def __init__(self, encoder: Encoder, num_transforms: int = 8) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_transforms = num_transforms
        self.heads = nn.ModuleList()
        for _ in range(num_transforms):
            weight = torch.randn(encoder.latent_dim) / math.sqrt(encoder.latent_dim)
            start = torch.cat([weight, torch.zeros(encoder.latent_dim + 1)])
            self.heads.append(transforms.constant_head(encoder.num_features, start))

    def posterior(self, x: Tensor) -> dist.TransformedDistribution:
        """q(z | x), batch shape (*batch,), event shape (latent_dim,)."""
        features = self.encoder.trunk(x)
        loc, scale = self.encoder.head(features)
        flow = [transforms.Conditioned(transforms.Planar, head(features)) for head in self.heads]
        return dist.TransformedDistribution(dist.Normal(loc, scale).to_event(1), flow)

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        posterior = self.posterior(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", posterior)
