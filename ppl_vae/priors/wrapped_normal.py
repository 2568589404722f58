"""The fixed prior of latents in hyperbolic space."""

from __future__ import annotations

import pyro.distributions as dist

from ppl_vae.distributions import hyperbolic
from ppl_vae.priors.fixed import FixedPrior, positive


class WrappedNormal(FixedPrior):
    r"""Latents in the Poincare ball, wrapped around its middle; the guide is `guides.WrappedNormal`.

    .. math:: z = \tanh\Bigl(\frac{\sqrt c \, \|v\|}2\Bigr) \frac{v}{\sqrt c \, \|v\|}, \qquad
        v \sim \mathcal{N}(0, \mathrm{scale}^2 I)

    Args:
        latent_dim: the number of latent dimensions.
        scale: of the distance from the middle, in the space's own units.
        curvature: c; the space has curvature -c, and the ball the radius 1 / sqrt(c).

    Raises:
        ValueError: for a scale or a curvature that is not positive.

    Mathieu et al., Continuous Hierarchical Representations with Poincare Variational Auto-Encoders,
    arXiv:1901.06033.
    """

    def __init__(self, latent_dim: int, scale: float = 1.0, curvature: float = 1.0) -> None:
        super().__init__(latent_dim)
        self.scale = positive("scale", scale)
        self.curvature = positive("curvature", curvature)

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        return hyperbolic.WrappedNormal(self.zeros, self.zeros + self.scale, self.curvature)
