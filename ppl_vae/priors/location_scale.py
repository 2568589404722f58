"""Fixed priors of real latents other than normal ones: what the guides of the same names belong to."""

from __future__ import annotations

import pyro.distributions as dist

from ppl_vae.priors.fixed import FixedPrior, LocationScalePrior, finite, positive


class Gumbel(LocationScalePrior):
    r"""Independent Gumbel latents, z_j ~ Gumbel(loc, scale); the guide is `guides.Gumbel`.

    Args:
        latent_dim: the number of latent dimensions.
        loc: the mode.
        scale: positive.

    Raises:
        ValueError: for a scale that is not positive.
    """

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.Gumbel(self.zeros + self.loc, self.zeros + self.scale).to_event(1)


class Laplace(LocationScalePrior):
    r"""Independent Laplace latents, which favour sparse codes; the guide is `guides.Laplace`.

    Args:
        latent_dim: the number of latent dimensions.
        loc: the mean.
        scale: positive; the variance is 2 scale^2.

    Raises:
        ValueError: for a scale that is not positive.
    """

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.Laplace(self.zeros + self.loc, self.zeros + self.scale).to_event(1)


class StudentT(FixedPrior):
    r"""Independent Student-t latents, with heavy tails; the guide is `guides.StudentT`.

    Args:
        latent_dim: the number of latent dimensions.
        degrees: the degrees of freedom, positive.
        loc: the centre.
        scale: positive.

    Raises:
        ValueError: for degrees or a scale that are not positive.
    """

    def __init__(self, latent_dim: int, degrees: float = 5.0, loc: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(latent_dim)
        self.degrees = positive("degrees", degrees)
        self.loc = finite("loc", loc)
        self.scale = positive("scale", scale)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.StudentT(self.degrees, self.zeros + self.loc, self.scale).to_event(1)
