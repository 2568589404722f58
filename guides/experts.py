"""Guides of several views: an expert for each view, and how what they say becomes one posterior."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.core.missing import takes_missing
from ppl_vae.distributions.expert_mixture import ExpertMixture


class _Experts(nn.Module):
    """What the guides of this file share: the experts, and which of them have their view."""

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

    def _experts(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
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


class ProductOfExperts(_Experts):
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
        loc, scale, seen = self._experts(views)
        loc, scale = _product(loc, scale, seen, self.prior_expert)
        return dist.Normal(loc, scale).to_event(1)


class MixtureOfExperts(_Experts):
    r"""A posterior that takes one expert's word, each as often as another's: the MMVAE.

    .. math:: q(z \mid x) = \frac1{M'} \sum_{m \text{ seen}}
        \mathcal{N}\bigl(z; \mathrm{loc}_m(x_m), \mathrm{diag}\,\mathrm{scale}_m(x_m)^2\bigr)

    Every expert alone must explain all views, so each can be asked alone afterwards. A datum of which
    nothing is seen has N(0, I). Its paper trains it by `estimators.DReG`.

    Args:
        encoders: a `nets.LocScaleEncoder` for each view, in the model's order.

    Raises:
        ValueError: for no encoder; in `forward`, for another number of views.

    Shi, Siddharth, Paige and Torr, Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep
    Generative Models, arXiv:1911.03393.
    """

    def posterior(self, *views: Tensor) -> Any:
        """q(z | views): a mixture, batch shape (B,), event shape (latent_dim,)."""
        return _mixture(*self._experts(views), prior_expert=False, sizes=(1,))


class MixtureOfProducts(_Experts):
    r"""A mixture, over all sets of the views that are seen, of the product of a set's experts: the MoPoE.

    .. math:: q(z \mid x) = \frac1{2^{M'} - 1} \sum_{\emptyset \ne S \subseteq \text{seen}}
        \frac{1}{Z_S} \prod_{m \in S} q_m(z), \qquad
        q_m = \mathcal{N}\bigl(\mathrm{loc}_m(x_m), \mathrm{diag}\,\mathrm{scale}_m(x_m)^2\bigr)

    Of one set it is `ProductOfExperts`, of the sets of one `MixtureOfExperts`. There are 2^M - 1 components.

    Args:
        encoders: a `nets.LocScaleEncoder` for each view, in the model's order.
        prior_expert: whether N(0, I) is a factor of every product.

    Raises:
        ValueError: for no encoder; in `forward`, for another number of views.

    Sutter, Daunhawer and Vogt, Generalized Multimodal ELBO, arXiv:2105.02470.
    """

    def __init__(self, encoders: Sequence[nn.Module], prior_expert: bool = False) -> None:
        super().__init__(encoders)
        self.prior_expert = prior_expert

    def posterior(self, *views: Tensor) -> Any:
        """q(z | views): a mixture, batch shape (B,), event shape (latent_dim,)."""
        sizes = range(1, len(self.encoders) + 1)
        return _mixture(*self._experts(views), self.prior_expert, sizes)


def _product(loc: Tensor, scale: Tensor, used: Tensor, prior_expert: bool) -> tuple[Tensor, Tensor]:
    """The normalised product of the used experts, (B, M, d) to (B, d); N(0, I) of none."""
    precision = scale.square().reciprocal() * used.unsqueeze(-1)
    base = torch.ones_like(precision[..., 0, :])
    if not prior_expert:
        base = base * ~used.any(-1, keepdim=True)
    total = precision.sum(-2) + base
    return (precision * loc).sum(-2) / total, total.rsqrt()


def _mixture(
    loc: Tensor, scale: Tensor, seen: Tensor, prior_expert: bool, sizes: Sequence[int]
) -> ExpertMixture:
    """The mixture over the sets of views, of these sizes, whose views are all seen, in equal shares."""
    experts = seen.shape[-1]
    members = torch.tensor(
        [
            [view in chosen for view in range(experts)]
            for size in sizes
            for chosen in itertools.combinations(range(experts), size)
        ],
        device=seen.device,
    )
    possible = (seen.unsqueeze(-2) | ~members).all(-1)  # (B, C)
    # where nothing is seen every product is that of no experts, N(0, I), and one of them stands for it
    possible = possible | ~seen.any(-1, keepdim=True)
    used = members & seen.unsqueeze(-2)
    each = _product(loc.unsqueeze(-3), scale.unsqueeze(-3), used, prior_expert)
    count = possible.sum(-1, keepdim=True).to(loc.dtype)
    log_weight = torch.where(possible, -count.log(), torch.full_like(count, -math.inf))
    return ExpertMixture(*each, log_weight)
