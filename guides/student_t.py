"""The Student-t guide: independent posteriors with heavy tails."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets.contracts import LocScaleEncoder


class StudentT(nn.Module):
    r"""A Student-t posterior, whose tails importance sampling likes;
    the prior it belongs to is `priors.StudentT`.

    .. math:: q(z_j \mid x) \propto
        \Bigl(1 + \tfrac{1}{\nu} \bigl(\tfrac{z_j - m_j}{s_j}\bigr)^2\Bigr)^{-(\nu + 1) / 2}, \qquad
        (m, s) = \mathrm{encoder}(x)

    There is no closed form of its KL.

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), each (*batch, latent_dim).
        degrees: nu, the degrees of freedom, positive; the mean exists above 1.

    Raises:
        ValueError: for degrees that are not positive.
    """

    def __init__(self, encoder: nn.Module, degrees: float = 5.0) -> None:
        super().__init__()
        if degrees <= 0:
            raise ValueError(f"degrees must be positive, got {degrees}")
        self.encoder: LocScaleEncoder = encoder
        self.degrees = degrees

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        loc, scale = self.encoder(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.StudentT(self.degrees, loc, scale).to_event(1))
