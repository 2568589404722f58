"""The log-normal guide: positive latents whose logarithms are normal."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets.contracts import LocScaleEncoder


class LogNormal(nn.Module):
    r"""A posterior for positive latents; the prior it belongs to is `priors.LogNormal`.

    .. math:: \log z \sim \mathcal{N}\bigl(\mathrm{loc}(x), \mathrm{diag}\,\mathrm{scale}(x)^2\bigr)

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
            return pyro.sample("z", dist.LogNormal(loc, scale).to_event(1))
