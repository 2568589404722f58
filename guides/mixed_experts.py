"""Posteriors that mix what the experts of several views say: the MMVAE's and the MoPoE's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.distributions.expert_mixture import ExpertMixture
from ppl_vae.guides.experts import Experts, product


class MixtureOfExperts(Experts):
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
        return _mixture(*self.experts(views), prior_expert=False, sizes=(1,))


class MixtureOfProducts(Experts):
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
        return _mixture(*self.experts(views), self.prior_expert, sizes)


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
    each = product(loc.unsqueeze(-3), scale.unsqueeze(-3), used, prior_expert)
    count = possible.sum(-1, keepdim=True).to(loc.dtype)
    log_weight = torch.where(possible, -count.log(), torch.full_like(count, -math.inf))
    return ExpertMixture(*each, log_weight)
