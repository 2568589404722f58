"""The KL divergence of a latent site by dimension, and whether its gradient is known."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import kl_divergence

from ppl_vae.core.layout import particle_first
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, auxiliary_names, data_frame
from ppl_vae.distributions.factors import factors

Site = dict[str, Any]


def kl_by_dimension(particles: Particles, site: str) -> Tensor | None:
    """(K, B, *inner plates, *event): KL(q || p) of each dimension of a site inside the `data` plate.

    In closed form where `Particles.kl_closed_form` has one, else log q - log p at the particles.
    None where one of the two distributions does not factorise over the dimensions.
    """
    if site in particles.under_sum:
        return None  # a mixture
    guide_site, model_site = particles.guide_trace.nodes[site], particles.model_trace.nodes[site]
    q, p = factors(guide_site["fn"]), factors(model_site["fn"])
    if q is None or p is None:
        return None
    if particles.kl_closed_form(site) is not None:
        divergence = _scaled(kl_divergence(q, p), guide_site)
    else:
        value = guide_site["value"]
        divergence = _scaled(q.log_prob(value), guide_site) - _scaled(p.log_prob(value), model_site)
    return particle_first(divergence, guide_site, particles.num_particles)


def refuse_unknown_gradient(treatment: str, site: str, particles: Particles) -> None:
    """Raise PairError for a site whose KL as a term of the loss would not have its gradient."""
    refuse_outside_data(treatment, site, particles)
    if site not in particles.guide_trace.nodes:
        raise PairError(f"{treatment}: site {site!r} is not drawn by the guide, so it has no KL term")
    if auxiliary := auxiliary_names(particles.guide_trace):
        raise PairError(
            f"{treatment}: the guide makes site {site!r} of its auxiliary sites {auxiliary}, so its KL has "
            "no term of its own. Use a weight, kl.Beta or a warm-up"
        )
    # a closed form needs no gradient through the site's own draws, but may look at those of the others
    exact = particles.kl_closed_form(site) is not None
    missing = sorted(particles.non_reparameterised - ({site} if exact else set()))
    if missing:
        raise PairError(
            f"{treatment}: the KL term of site {site!r} depends on draws of {missing}, which carry no "
            "pathwise gradient, and as a penalty it would lose the score function's. Use a weight, kl.Beta "
            f"or a warm-up, or a guide whose draws are reparameterised"
        )


def refuse_outside_data(treatment: str, site: str, particles: Particles) -> None:
    """Raise PairError for a site outside the `data` plate."""
    if site in particles.global_sites:
        raise PairError(
            f"{treatment}: site {site!r} is outside the plate 'data', so its KL is not a mean over data. "
            f"Name the sites that are inside, kl={{site: {treatment}(...)}}, for which this pair has "
            f"{list(particles.latent_sites)}; a global site takes a weight, kl.Beta"
        )


def refuse_summed_prior(treatment: str, site: str, particles: Particles) -> None:
    """Raise PairError for a site whose prior is a sum over finite sites, which no distribution stands for."""
    if site in particles.under_sum:
        raise PairError(
            f"{treatment}: the prior of site {site!r} depends on finite sites that the model sums over, and "
            "so is no single distribution with draws and moments. Write it as one, priors.NormalMixture or "
            "dist.MixtureSameFamily, or use a weight, kl.Beta or a warm-up"
        )


def _scaled(term: Tensor, site: Site) -> Tensor:
    """A term of each dimension, masked and scaled as the site is, without the `data` plate's N/B."""
    frame = data_frame(site)
    dims = (...,) + (None,) * len(site["fn"].event_shape)
    scale, mask = (v[dims] if isinstance(v, Tensor) and v.dim() else v for v in (site["scale"], site["mask"]))
    if frame.size != frame.full_size:
        scale = scale * (frame.size / frame.full_size)
    return torch.as_tensor(scale_and_mask(term, scale, mask))
