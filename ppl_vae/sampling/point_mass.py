"""Guides without a density, or with one that may be none: no bound and no importance weight can be asked."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor

from ppl_vae.core.factor_sites import factor_names
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, auxiliary_names, data_frame
from ppl_vae.distributions.improper import innermost, is_improper
from ppl_vae.distributions.nearest import has_one_value


def refuse_point_mass(particles: Particles, what: str) -> None:
    """Raise PairError for a pair whose guide has factors, or puts a datum's latent in one point, or whose
    prior is none.

    A latent that is a point mass in the model too is a statement of the program and no posterior.

    Args:
        particles: of the pair.
        what: the evaluation, for the message.
    """
    if factors := factor_names(particles.guide_trace):
        raise PairError(
            f"{what}: the guide has the factors {factors}, so its density need not integrate to 1, and what "
            "comes out need not be a lower bound on log p(x). Penalties of training belong in training alone "
            "(`if self.training:` in a Module), or are left out here, Pair(model, poutine.block(guide, "
            f"hide={factors})); a density of what the guide draws belongs to the latent's own site, "
            "pyro.sample(name, dist.Delta(value, log_density=...))"
        )
    if auxiliary_names(particles.guide_trace):
        return  # an autoguide's: the points are functions of what it draws from a density
    guide, model = particles.guide_trace.nodes, particles.model_trace.nodes
    for site in particles.latent_sites:
        if site in guide and _is_point(guide[site]["fn"]) and data_frame(guide[site]) is not None:
            if site in model and _is_point(model[site]["fn"]):
                continue
            raise PairError(
                f"{what}: the guide puts site {site!r} in one point, so it has no density, and neither a "
                "lower bound on log p(x) nor importance weights exist. How well it reconstructs is what fit "
                "logs as 'reconstruction', and evaluate.active_units holds; for a bound use a guide with a "
                f"density, such as guides.MeanField"
            )
        if site in model and is_improper(model[site]["fn"]):
            raise PairError(
                f"{what}: the model has no prior over site {site!r}, so there is no p(x): use a model with "
                f"one, such as models.VAE"
            )


def at_one_value(particles: Particles) -> Tensor | None:
    """(B,) whether the guide gives all probability to one value of a discrete latent, and the model does not.

    None where the guide draws nothing discrete. Draws of such a datum are all alike, and so are their
    weights: that says nothing of the values that the guide never draws.

    Args:
        particles: of the pair.
    """
    certain = None
    for site in particles.latent_sites:
        drawn, prior = particles.log_draw.get(site), particles.log_prior.get(site)
        if drawn is None or prior is None or not _is_discrete(particles.guide_trace.nodes[site]["fn"]):
            continue
        here = (drawn == 0).all(0) & (prior < 0).any(0)
        certain = here if certain is None else certain | here
    return certain


def refuse_one_value(particles: Particles, what: str) -> None:
    """Raise PairError for a guide that says that it can draw one value alone of a discrete latent."""
    nodes = particles.guide_trace.nodes
    for site in particles.latent_sites:
        if site in nodes and has_one_value(nodes[site]["fn"]):
            raise PairError(
                f"{what}: the guide draws one value alone of site {site!r}, so its draws never reach the "
                "rest of the posterior, whatever their weights. Ask for the guide's own answer, "
                "method='guide' ('pseudo-gibbs' of pv.impute), or use one that draws, such as "
                "guides.Categorical"
            )


def _is_discrete(fn: dist.Distribution) -> bool:
    try:
        return bool(fn.support.is_discrete)
    except (AttributeError, NotImplementedError):
        return False


def _is_point(fn: dist.Distribution) -> bool:
    return isinstance(innermost(fn), dist.Delta)
