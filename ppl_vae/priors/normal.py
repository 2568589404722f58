"""Normal priors: the standard one, and a diagonal one that is learned."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import nn

from ppl_vae.nets.scale import positive_scale
from ppl_vae.nets.shapes import positive_size
from ppl_vae.priors.fixed import FixedPrior


class StandardNormal(FixedPrior):
    r"""The standard normal prior, z ~ N(0, I).

    Args:
        latent_dim: the number of latent dimensions.

    Kingma and Welling, Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.Normal(self.zeros, 1.0).to_event(1)


class DiagonalNormal(nn.Module):
    r"""A normal prior whose mean and variances are learned, z ~ N(m, diag(s)^2).

    It starts at the standard normal. For a model whose decoder begins with a linear layer it is no richer
    family than N(0, I), but it leaves scale and place of the codes to the guide.

    Args:
        latent_dim: the number of latent dimensions.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.loc = nn.Parameter(torch.zeros(latent_dim))
        self.raw_scale = nn.Parameter(torch.zeros(latent_dim))

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.Normal(self.loc, positive_scale(self.raw_scale)).to_event(1)
