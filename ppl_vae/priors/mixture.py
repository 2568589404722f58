"""The mixture prior: some normals, each with a place, a size and a weight of its own."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import nn

from ppl_vae.nets.scale import inverse_positive_scale, positive_scale
from ppl_vae.nets.shapes import positive_size
from ppl_vae.priors.normal_mixture import NormalMixture

_SPREAD = 0.8  # of the components at the start: with their own scale of 0.6 the mixture's variance is 1


class MixtureOfGaussians(nn.Module):
    r"""A mixture of diagonal normals, all of it learned.

    .. math:: p(z) = \sum_c \pi_c \, \mathcal{N}\bigl(z; m_c, \mathrm{diag}(s_c)^2\bigr)

    It starts with equal weights and with components drawn at random, whose mixture has mean 0 and
    variance 1 in expectation.

    Args:
        latent_dim: the number of latent dimensions.
        num_components: C.

    Dilokthanakul et al., Deep Unsupervised Clustering with Gaussian Mixture VAEs, arXiv:1611.02648, where
    the mixture hangs on a further latent; as a learned prior it is the MoG of arXiv:1705.07120.

    >>> MixtureOfGaussians(latent_dim=2, num_components=10)().event_shape
    torch.Size([2])
    """

    def __init__(self, latent_dim: int, num_components: int = 10) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.num_components = positive_size("num_components", num_components)
        shape = num_components, latent_dim
        self.loc = nn.Parameter(_SPREAD * torch.randn(shape))
        scale = torch.full(shape, (1 - _SPREAD**2) ** 0.5)
        self.raw_scale = nn.Parameter(inverse_positive_scale(scale))
        self.logits = nn.Parameter(torch.zeros(num_components))

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return NormalMixture(self.loc, positive_scale(self.raw_scale), self.logits)
