"""The guide as a classifier: the probability of each value of a finite site."""

from __future__ import annotations

from torch import Tensor

from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair
from ppl_vae.queries.arguments import check_site, converted
from ppl_vae.queries.handlers import Centre, latent_sites, run


@one_thread
def class_probabilities(pair: Pair, *batch: Tensor, site: str = "y") -> Tensor:
    r"""The guide's probability of each value of a finite latent site, q(y | x).

    Sites that the guide draws before it are at their means. A label that is known has probability 1 under
    `guides.SemiSupervised`, so leave the labels out to classify: `class_probabilities(pair, x)`.

    Args:
        pair: the pair.
        batch: what the guide is called with.
        site: the finite site.

    Returns:
        (n, C) for C values, in the order of the site's `enumerate_support()`: 0, 1, ... for Categorical.

    Raises:
        ValueError: for a site that the guide does not have, or whose values are not finite in number.

    >>> import torch
    >>> from ppl_vae import guides, likelihoods, models, nets
    >>> likelihood, decoder = likelihoods.Gaussian(event_dim=1), nets.MLPDecoder(2 + 3, shape=(5,))
    >>> model = models.SemiSupervisedVAE(likelihood, decoder, latent_dim=2, num_classes=3)
    >>> encoder = nets.MLPEncoder((5 + 3,), latent_dim=2)
    >>> guide = guides.SemiSupervised(torch.nn.Linear(5, 3), torch.nn.Identity(), encoder, num_classes=3)
    >>> probabilities = class_probabilities(Pair(model, guide), torch.randn(4, 5))
    >>> probabilities.shape, bool((probabilities.sum(-1) - 1).abs().max() < 1e-6)
    (torch.Size([4, 3]), True)
    """
    with questioning(pair, None, pair.device):
        sites = latent_sites(run(pair.guide, converted(pair, batch), Centre()))
        check_site(site, sites)
        fn = sites[site]["fn"]
        if not getattr(fn, "has_enumerate_support", False):
            raise ValueError(f"site {site!r} has no finite list of values, it is {type(fn).__name__}")
        probabilities: Tensor = fn.log_prob(fn.enumerate_support()).exp().movedim(0, -1)
        return probabilities
