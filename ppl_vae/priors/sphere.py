"""The fixed prior of latents on a sphere."""

from __future__ import annotations

import pyro.distributions as dist

from ppl_vae.distributions.uniform_sphere import UniformSphere
from ppl_vae.priors.fixed import FixedPrior


class Sphere(FixedPrior):
    r"""Latents that are uniform on the unit sphere of R^latent_dim; the guide is `guides.PowerSpherical`.

    Args:
        latent_dim: the number of dimensions around the sphere: 2 is the circle.

    Raises:
        ValueError: for fewer than 2 dimensions.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        if latent_dim < 2:
            raise ValueError(f"latent_dim must be at least 2, the circle, got {latent_dim}")

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return UniformSphere(self.zeros)
