"""The Gumbel guide: independent posteriors that are skewed to the right."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets.contracts import LocScaleEncoder


class Gumbel(nn.Module):
    r"""A Gumbel posterior, for latents that are extremes; the prior it belongs to is `priors.Gumbel`.

    .. math:: q(z_j \mid x) = \frac{1}{s_j} e^{-(u_j + e^{-u_j})}, \qquad u_j = \frac{z_j - m_j}{s_j},
        \qquad (m, s) = \mathrm{encoder}(x)

    The KL to that prior is in closed form.

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), each (*batch, latent_dim).
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder: LocScaleEncoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        loc, scale = self.encoder(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Gumbel(loc, scale).to_event(1))
