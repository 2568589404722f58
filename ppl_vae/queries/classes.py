"""The pair as a classifier: the probability of each value of a finite site."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.core import drawing
from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.one_by_one import runs_one_by_one
from ppl_vae.core.pair import Pair
from ppl_vae.core.subsampling import whole_plate
from ppl_vae.core.summed import conditional_probabilities
from ppl_vae.queries.arguments import check_site, converted
from ppl_vae.queries.handlers import Centre, latent_sites, run, sample_sites
from ppl_vae.queries.sums import summed_sites

_ELEMENTS = 2**22  # of the data, at all values of the site and at several particles, that are run at a time


@one_thread
@checked()
def class_probabilities(
    pair: Pair, *batch: Tensor, site: str = "y", num_particles: int = 100, seed: int | None = None
) -> Tensor:
    r"""The probability of each value of a finite latent site: of the guide's q(y | x), or of the posterior.

    Of a site that the guide draws it is the guide's, with the sites that it draws before at their means. A
    label that is known has probability 1 under `guides.SemiSupervised`, so leave the labels out to
    classify: `class_probabilities(pair, x)`. Of one that the model alone has, and sums over, the posterior,

    .. math:: p(y \mid x) \approx \sum_k \bar w_k \, p(y \mid x, z_k), \qquad
        z_k \sim q(z \mid x), \quad \bar w_k \propto \frac{p(x, z_k)}{q(z_k \mid x)}

    with each conditional exact: all of it where the guide draws nothing, and else as good as the importance
    weights, whose effective sample size `evaluate.log_likelihood` tells. Latents that all data share are
    drawn from the guide.

    Args:
        pair: the pair.
        batch: what the guide is called with, or both programs of a site that the model sums over.
        site: the finite site.
        num_particles: K, for a site that the model sums over.
        seed: of the K draws.

    Returns:
        (n, C) for C values, in the order of the site's `enumerate_support()`: 0, 1, ... for Categorical; with
        inner plates to the left, (*plates, n, C).

    Raises:
        ValueError: for a site that the pair does not have, or whose values are not finite in number.

    >>> from ppl_vae import guides, likelihoods, models, nets
    >>> likelihood, decoder = likelihoods.Gaussian(event_dim=1), nets.MLPDecoder(2 + 3, shape=(5,))
    >>> model = models.SemiSupervisedVAE(likelihood, decoder, latent_dim=2, num_classes=3)
    >>> encoder = nets.MLPEncoder((5 + 3,), latent_dim=2)
    >>> guide = guides.SemiSupervised(torch.nn.Linear(5, 3), torch.nn.Identity(), encoder, num_classes=3)
    >>> probabilities = class_probabilities(Pair(model, guide), torch.randn(4, 5))
    >>> probabilities.shape, bool((probabilities.sum(-1) - 1).abs().max() < 1e-6)
    (torch.Size([4, 3]), True)
    """
    with questioning(pair, seed, pair.device):
        tensors = converted(pair, batch)
        sites = latent_sites(run(pair.guide, tensors, Centre()))
        if site not in sites:
            summed = summed_sites(pair, tensors)
            check_site(site, [*sites, *summed])
            return _posterior(pair, tensors, site, summed[site], num_particles if sites else 1)
        fn = sites[site]["fn"]
        if not getattr(fn, "has_enumerate_support", False):
            raise ValueError(f"site {site!r} has no finite list of values, it is {type(fn).__name__}")
        probabilities: Tensor = fn.log_prob(fn.enumerate_support()).exp().movedim(0, -1)
        return probabilities


@one_thread
def finite_sites(pair: Pair, *batch: Tensor) -> list[str]:
    """The latent sites whose values are finite in number: those that `class_probabilities` knows."""
    with questioning(pair, 0, pair.device):
        tensors = converted(pair, batch)
        sites = latent_sites(run(pair.guide, tensors, Centre()))
        own = [name for name, site in sites.items() if getattr(site["fn"], "has_enumerate_support", False)]
        return [*own, *summed_sites(pair, tensors)]


def _posterior(pair: Pair, batch: tuple[Tensor, ...], site: str, num_values: int, num: int) -> Tensor:
    """(*inner plates, n, C): the mean of p(site | x, z) under the importance weights."""
    most = max(1, _ELEMENTS // (num_values * max(tensor.numel() for tensor in batch)))
    chunk = 1 if runs_one_by_one(pair.model, pair.guide) else most
    weights, conditionals, left = [], [], num
    while left:
        count = min(chunk, left)
        with whole_plate(len(batch[0])):
            particles = drawing.draw(pair.model, pair.guide, batch, num_particles=count)
        weights.append(particles.log_weight)
        conditionals.append(conditional_probabilities(sample_sites(particles.model_trace), count, site))
        left -= count
    weight, given = torch.cat(weights).softmax(0), torch.cat(conditionals)
    return (weight.reshape(len(weight), *[1] * (given.dim() - 3), -1, 1) * given).sum(0)
