"""The mean-field guide: a diagonal normal whose parameters an encoder computes from x."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets.contracts import LocScaleEncoder


class MeanField(nn.Module):
    r"""A diagonal normal posterior.

    .. math:: q(z \mid x) = \mathcal{N}\bigl(\mathrm{loc}(x), \mathrm{diag}\,\mathrm{scale}(x)^2\bigr)

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), each (*batch, latent_dim).

    Kingma and Welling, Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder: LocScaleEncoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        loc, scale = self.encoder(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Normal(loc, scale).to_event(1))
