"""The Laplace guide: independent posteriors with a peak and exponential tails."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets.contracts import LocScaleEncoder


class Laplace(nn.Module):
    r"""A Laplace posterior for sparse codes; the prior it belongs to is `priors.Laplace`.

    .. math:: q(z_j \mid x) = \frac{1}{2 s_j} \exp\bigl(-|z_j - m_j| / s_j\bigr), \qquad
        (m, s) = \mathrm{encoder}(x)

    The KL to that prior is in closed form.

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), each (*batch, latent_dim).

    Barello, Charles and Pillow, Sparse-Coding Variational Auto-Encoders, bioRxiv:399246.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder: LocScaleEncoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        loc, scale = self.encoder(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Laplace(loc, scale).to_event(1))
