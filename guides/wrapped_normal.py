"""The wrapped normal guide: latents in hyperbolic space."""

from __future__ import annotations

import pyro
from torch import Tensor, nn

from ppl_vae.distributions import hyperbolic
from ppl_vae.nets.contracts import LocScaleEncoder


class WrappedNormal(nn.Module):
    r"""A posterior in the Poincare ball; the prior it belongs to is `priors.WrappedNormal`.

    .. math:: z = \exp_\mu(v), \quad v \sim \mathcal{N}\bigl(0, \mathrm{diag}\,\mathrm{scale}(x)^2\bigr),
        \qquad \mu = \exp_0(\mathrm{loc}(x))

    loc is so the tangent vector that leads from the origin to the middle, of any length, and both in units
    of the space's own distance. The decoder meets points of the ball as they are.

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), (*batch, latent_dim).
        curvature: c, as the prior's; the space has curvature -c.

    Raises:
        ValueError: for a curvature that is not positive.

    Mathieu et al., Continuous Hierarchical Representations with Poincare Variational Auto-Encoders,
    arXiv:1901.06033; Nagano et al., arXiv:1902.02992.
    """

    def __init__(self, encoder: nn.Module, curvature: float = 1.0) -> None:
        super().__init__()
        if not 0 < curvature < float("inf"):
            raise ValueError(f"curvature must be a positive number, got {curvature!r}")
        self.encoder: LocScaleEncoder = encoder
        self.curvature = curvature

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        loc, scale = self.encoder(x)
        middle = hyperbolic.Wrapping(None, self.curvature)(loc)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", hyperbolic.WrappedNormal(middle, scale, self.curvature))
