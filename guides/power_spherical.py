"""The power spherical guide: latents that are directions."""

from __future__ import annotations

import pyro
from torch import Tensor, nn

from ppl_vae.distributions import spherical
from ppl_vae.nets.contracts import LocScaleEncoder


class PowerSpherical(nn.Module):
    r"""A posterior on the unit sphere of R^latent_dim; the prior it belongs to is `priors.Sphere`.

    .. math:: q(z \mid x) \propto (1 + \mu^\top z)^\kappa, \qquad
        \mu = \frac{\mathrm{loc}(x)}{\|\mathrm{loc}(x)\|},
        \qquad \kappa = \frac{2}{s^2 + 10^{-4}}, \qquad \log s = \mathrm{mean}_j \log \mathrm{scale}_j(x)

    s is the standard deviation along the sphere, where that is small. The gradient is pathwise, the KL to
    the uniform prior in closed form.

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), (*batch, latent_dim), latent_dim >= 2.

    De Cao and Aziz, The Power Spherical Distribution, arXiv:2006.04437.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder: LocScaleEncoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        loc, scale = self.encoder(x)
        concentration = 2 / ((2 * scale.log().mean(-1)).exp() + 1e-4)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", spherical.PowerSpherical(loc, concentration))
