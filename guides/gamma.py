"""The gamma guide: positive latents, from nearly exponential to nearly normal."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets import positive_scale
from ppl_vae.nets.contracts import LocScaleEncoder

# A draw with a smaller concentration is often below the smallest number of float32
_SMALLEST_CONCENTRATION = 0.1
_MEAN_RANGE = (1e-3, 1e3)


class Gamma(nn.Module):
    r"""A gamma posterior for positive latents; the priors it belongs to are `priors.Gamma` and
    `priors.Exponential`.

    .. math:: q(z_j \mid x) = \mathrm{Gamma}(a_j, a_j / m_j), \qquad \log m \approx \mathrm{loc}(x), \qquad
        a = 0.1 + \frac{1}{\mathrm{scale}(x)^2 + 10^{-4}}

    The encoder's loc is the logarithm of the mean (which stays within 0.001 and 1,000), its scale is the
    standard deviation relative to the mean. The gradient is pathwise, by implicit differentiation. The KL
    to those priors is in closed form.

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), each (*batch, latent_dim).

    Figurnov, Mohamed and Mnih, Implicit Reparameterization Gradients, arXiv:1805.08498.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder: LocScaleEncoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        loc, scale = self.encoder(x)
        concentration = _SMALLEST_CONCENTRATION + 1 / (scale.square() + 1e-4)
        rate = concentration / positive_scale(loc, *_MEAN_RANGE)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Gamma(concentration, rate).to_event(1))
