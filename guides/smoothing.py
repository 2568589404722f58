"""The guide of a chain of latents: each step given the one before it, and what a net has read of the data."""

from __future__ import annotations

import pyro
import torch
from torch import Tensor, nn

from ppl_vae import transforms
from ppl_vae.distributions.chain import NormalChain
from ppl_vae.distributions.flow_chain import FlowChain
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

    With `num_transforms` z_t is such a normal vector after that many inverse autoregressive transforms, which
    see c_t; every other one goes through the latents backwards, and all of them start as the identity.

    .. math:: z_t = f_n(\cdots f_1(u_t; c_t) \cdots; c_t), \qquad
        u_t \sim \mathcal{N}\bigl(\mathrm{combiner}(z_{t-1}, c_t)\bigr)

    A draw with its density is one evaluation of each net a step; the density elsewhere, as `STL` and `DReG`
    need it, takes latent_dim of them.

    Args:
        features: from x, (B, T, \*step), and which steps are there, (B, T) booleans or None, to (B, T, C).
        combiner: from z_{t-1} and c_t to the location and the scale of z_t: `nets.Combiner`.
        latent_dim: of z_t.
        num_transforms: how many transforms; they need features with `num_features`, the width C.
        hidden: widths of the hidden layers of the transforms' nets.

    Raises:
        ValueError: for a combiner of another latent_dim, a negative num_transforms, and transforms of
            features of unknown width.

    Krishnan, Shalit and Sontag, arXiv:1609.09869; Kingma et al., arXiv:1606.04934, for the transforms.
    """

    def __init__(
        self,
        features: nn.Module,
        combiner: nn.Module,
        latent_dim: int,
        num_transforms: int = 0,
        hidden: tuple[int, ...] = (100,),
    ) -> None:
        super().__init__()
        self.features, self.combiner, self.latent_dim = features, combiner, latent_dim
        self.num_transforms, self.hidden = num_transforms, tuple(hidden)
        self.start = nn.Parameter(torch.zeros(latent_dim))
        require_latent_dim("combiner", combiner, latent_dim)
        if num_transforms < 0:
            raise ValueError(f"num_transforms must be 0 or more, got {num_transforms}")
        width = getattr(features, "num_features", 0)
        if num_transforms and not width:
            raise ValueError(
                f"{type(features).__name__} has no num_features, the width of its output, which the "
                f"{num_transforms} transforms see: give it that attribute, or leave num_transforms out"
            )
        self.flow = nn.ModuleList(
            transforms.masked_autoregressive(latent_dim, width, self.hidden, backwards=bool(number % 2))
            for number in range(num_transforms)
        )

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Draw z for each of the len(x) sequences."""
        there = steps_there(x, length)
        if there is not None:  # whatever stands after an end, NaN too, whose gradient would be NaN
            x = x.where(there[(...,) + (None,) * (x.dim() - 2)], 0)
        context = self.features(x, there)
        with pyro.plate("data", len(x), dim=-1):
            chain = NormalChain(self.combiner, self.start, x.shape[1], there, context)
            if not self.num_transforms:
                return pyro.sample("z", chain)
            return pyro.sample("z", FlowChain(chain, [lazy.forward for lazy in self.flow]))
