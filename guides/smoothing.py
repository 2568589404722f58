"""The guide of a chain of latents: each step given the one before it, and what a net has read of the data."""

from __future__ import annotations

import pyro
import torch
from torch import Tensor, nn

from ppl_vae.distributions.chain import NormalChain
from ppl_vae.distributions.padded import steps_there
from ppl_vae.nets.contracts import require_latent_dim


class Smoothing(nn.Module):
    r"""A chain of diagonal normals, the structured posterior of `models.DeepMarkov`.

    .. math:: q(z \mid x) = \prod_{t=1}^{T_i} \mathcal{N}\bigl(z_t;\ \mathrm{combiner}(z_{t-1}, c_t)\bigr),
        \qquad c = \mathrm{features}(x)

    With features that read backwards, `nets.Recurrent(direction="backwards")`, c_t holds x_t ... x_T, all
    that the exact posterior of z_t given z_{t-1} hangs on: smoothing. Read forwards c_t holds x_1 ... x_t,
    which is filtering: it can run while the data come in, and its bound is lower. "both" reads all of x at
    each step.

    Args:
        features: from x, (B, T, \*step), and which steps are there, (B, T) booleans or None, to (B, T, C).
        combiner: from z_{t-1} and c_t to the location and the scale of z_t: `nets.Combiner`.
        latent_dim: of z_t.

    Raises:
        ValueError: for a combiner of another latent_dim.

    Krishnan, Shalit and Sontag, arXiv:1609.09869.
    """

    def __init__(self, features: nn.Module, combiner: nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.features, self.combiner, self.latent_dim = features, combiner, latent_dim
        self.start = nn.Parameter(torch.zeros(latent_dim))
        require_latent_dim("combiner", combiner, latent_dim)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Draw z for each of the len(x) sequences."""
        there = steps_there(x, length)
        context = self.features(x, there)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", NormalChain(self.combiner, self.start, x.shape[1], there, context))
