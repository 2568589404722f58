"""Guides without a density, of which no bound and no importance weight can be asked."""

from __future__ import annotations

import pyro.distributions as dist

from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, auxiliary_names, data_frame
from ppl_vae.distributions.improper import innermost, is_improper


def refuse_point_mass(particles: Particles, what: str) -> None:
    """Raise PairError for a pair whose guide puts a datum's latent in one point, or whose prior is none.

    A latent that is a point mass in the model too is a statement of the program and no posterior.

    Args:
        particles: of the pair.
        what: the evaluation, for the message.
    """
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


def _is_point(fn: dist.Distribution) -> bool:
    return isinstance(innermost(fn), dist.Delta)
