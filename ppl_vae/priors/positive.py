"""Fixed priors of positive latents: what the guides of the same names belong to."""

from __future__ import annotations

import pyro.distributions as dist

from ppl_vae.priors.fixed import FixedPrior, LocationScalePrior, positive


class LogNormal(LocationScalePrior):
    r"""Independent log-normal latents, log z_j ~ N(loc, scale^2); the guide is `guides.LogNormal`.

    Args:
        latent_dim: the number of latent dimensions.
        loc: the mean of log z.
        scale: the standard deviation of log z, positive.

    Raises:
        ValueError: for a scale that is not positive.

    >>> LogNormal(latent_dim=2)().sample().shape
    torch.Size([2])
    """

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.LogNormal(self.zeros + self.loc, self.scale).to_event(1)


class Gamma(FixedPrior):
    r"""Independent gamma latents, z_j ~ Gamma(concentration, rate); the guide is `guides.Gamma`.

    Args:
        latent_dim: the number of latent dimensions.
        concentration: positive; the mean is concentration / rate.
        rate: positive.

    Raises:
        ValueError: for a parameter that is not positive.
    """

    def __init__(self, latent_dim: int, concentration: float = 1.0, rate: float = 1.0) -> None:
        super().__init__(latent_dim)
        self.concentration = positive("concentration", concentration)
        self.rate = positive("rate", rate)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.Gamma(self.zeros + self.concentration, self.zeros + self.rate).to_event(1)


class Exponential(FixedPrior):
    r"""Independent exponential latents, z_j ~ Exp(rate);
    the guides are `guides.Exponential` and `guides.Gamma`.

    Args:
        latent_dim: the number of latent dimensions.
        rate: positive; the mean is 1 / rate.

    Raises:
        ValueError: for a rate that is not positive.
    """

    def __init__(self, latent_dim: int, rate: float = 1.0) -> None:
        super().__init__(latent_dim)
        self.rate = positive("rate", rate)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return dist.Exponential(self.zeros + self.rate).to_event(1)
