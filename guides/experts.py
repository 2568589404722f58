"""Guides of several views: an expert for each view, and how what they say becomes one posterior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.core.missing import takes_missing


class Experts(nn.Module):
    """What these guides share: the experts, and which of them have their view."""

    takes_missing = True

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        if not len(self.encoders):
            raise ValueError(f"{type(self).__name__} takes an encoder for each view, got none")

    def forward(self, *views: Tensor) -> Tensor:
        """Draw z for each of the data."""
        posterior = self.posterior(*views)
        with pyro.plate("data", len(views[0]), dim=-1):
            z: Tensor = pyro.sample("z", posterior)
            return z

    def posterior(self, *views: Tensor) -> Any:
        """q(z | views), batch shape (B,)."""
        raise NotImplementedError

    def experts(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The locations and scales of the experts, (B, M, d), and which have seen something, (B, M)."""
        if len(views) != len(self.encoders):
            raise ValueError(
                f"{type(self).__name__} has {len(self.encoders)} encoders, one for each view, got "
                f"{len(views)} views"
            )
        locs, scales, seen = [], [], []
        for encoder, x in zip(self.encoders, views):
            gaps = x.isnan()
            # an expert of which nothing is used must give finite numbers all the same: 0 times NaN is NaN
            loc, scale = encoder(x if takes_missing(encoder) else x.masked_fill(gaps, 0))
            locs.append(loc)
            scales.append(scale)
            seen.append((~gaps).reshape(len(x), -1).any(1))
        return torch.stack(locs, 1), torch.stack(scales, 1), torch.stack(seen, 1)


class ProductOfExperts(Experts):
    r"""A normal posterior that multiplies what the experts of the views say, and the prior's: the MVAE.

    .. math:: q(z \mid x) \propto \mathcal{N}(z; 0, I) \prod_{m \text{ seen}}
        \mathcal{N}\bigl(z; \mathrm{loc}_m(x_m), \mathrm{diag}\,\mathrm{scale}_m(x_m)^2\bigr)

    That is how an exact posterior depends on views which are independent given z: each has a factor of its
    own, and one that is missing has none. A view of which only some entries are NaN has its expert, who sees
    0 there, or NaN if the encoder takes missing values.

    Args:
        encoders: a `nets.LocScaleEncoder` for each view, in the model's order.
        prior_expert: the factor N(0, I), which belongs to a model with that prior.

    Raises:
        ValueError: for no encoder; in `forward`, for another number of views.

    Wu and Goodman, Multimodal Generative Models for Scalable Weakly-Supervised Learning, arXiv:1802.05335.
    """

    def __init__(self, encoders: Sequence[nn.Module], prior_expert: bool = True) -> None:
        super().__init__(encoders)
        self.prior_expert = prior_expert

    def posterior(self, *views: Tensor) -> Any:
        """q(z | views): a normal, batch shape (B,), event shape (latent_dim,)."""
        loc, scale, seen = self.experts(views)
        loc, scale = product(loc, scale, seen, self.prior_expert)
        return dist.Normal(loc, scale).to_event(1)


def product(loc: Tensor, scale: Tensor, used: Tensor, prior_expert: bool) -> tuple[Tensor, Tensor]:
    """The normalised product of the used experts, (B, M, d) to (B, d); N(0, I) of none."""
    precision = scale.square().reciprocal() * used.unsqueeze(-1)
    base = torch.ones_like(precision[..., 0, :])
    if not prior_expert:
        base = base * ~used.any(-1, keepdim=True)
    total = precision.sum(-2) + base
    return (precision * loc).sum(-2) / total, total.rsqrt()
