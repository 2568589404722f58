"""The deterministic guide: one code for each datum, and no uncertainty about it."""

from __future__ import annotations

import pyro
from torch import Tensor, nn

from ppl_vae.distributions.improper import PointMass
from ppl_vae.nets.contracts import LocScaleEncoder


class Deterministic(nn.Module):
    r"""A point mass at the encoder's location.

    .. math:: q(z \mid x) = \delta(z - \mathrm{loc}(x))

    With `models.Autoencoder` it is a plain autoencoder. It has no density, so with no model is there a
    lower bound on log p(x): what `estimators.ELBO` then follows is log p(x, z) at z = loc(x). Under
    `models.VAE` with `kl=kl.MMD(weight, alpha=1)` that is a Wasserstein autoencoder (arXiv:1711.01558).

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), (*batch, latent_dim); scale is not used.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder: LocScaleEncoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Put z for each of the len(x) data where the encoder says."""
        loc, _ = self.encoder(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", PointMass(loc))
