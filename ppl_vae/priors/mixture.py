"""The mixture prior: some normals, each with a place, a size and a weight of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import nn

from ppl_vae.data import as_split
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

    @torch.no_grad()
    def initialise(self, codes: Any, seed: int = 0) -> None:
        """Start at the mixture that expectation maximisation fits to codes, a trained guide's draws,
        `pv.encode(pair, x).latents["z"]`.

        Not its means: they lack each datum's own spread, so that the components would be too narrow for the
        draws, and next to points in dimensions which the guide does not use.

        Args:
            codes: a Tensor (N, latent_dim), or a `data.Split` of them.
            seed: of where the algorithm begins, three times over.

        Raises:
            ValueError: for codes of another shape, or fewer than there are components.
        """
        from sklearn.mixture import GaussianMixture  # not at the top: it is slow to import

        found = as_split(codes).tensors()[0].double().cpu()
        if found.shape[1:] != self.loc.shape[1:] or len(found) < self.num_components:
            raise ValueError(
                f"MixtureOfGaussians: {self.num_components} components of latent_dim={self.latent_dim} take "
                f"as many codes or more, (N, {self.latent_dim}), got {tuple(found.shape)}"
            )
        fitted = GaussianMixture(
            self.num_components, covariance_type="diag", n_init=3, max_iter=500, random_state=seed
        )
        fitted.fit(found.numpy())
        scale = torch.as_tensor(fitted.covariances_).sqrt()
        parts = (self.loc, fitted.means_), (self.raw_scale, inverse_positive_scale(scale))
        for parameter, value in (*parts, (self.logits, np.log(fitted.weights_))):
            parameter.copy_(torch.as_tensor(value).to(parameter))

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return NormalMixture(self.loc, positive_scale(self.raw_scale), self.logits)
