"""The exponential guide: positive latents with a mean of their own."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets.contracts import LocScaleEncoder


class Exponential(nn.Module):
    r"""An exponential posterior for positive latents; the prior it belongs to is `priors.Exponential`.

    .. math:: q(z_j \mid x) = \frac{1}{s_j} e^{-z_j / s_j}, \qquad (\cdot, s) = \mathrm{encoder}(x)

    Its mean is the encoder's scale; the encoder's loc is not used. A family of one parameter: `Gamma` is
    the richer one for the same prior. The KL to that prior is in closed form.

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), each (*batch, latent_dim).
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder: LocScaleEncoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        _, scale = self.encoder(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Exponential(1 / scale).to_event(1))
