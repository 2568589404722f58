"""What the penalties on the aggregate posterior read of a latent site, and the sites that they refuse."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ppl_vae.core.layout import particle_first
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, inner_plates, latent_names
from ppl_vae.distributions.factors import factors
from ppl_vae.kl.divergence import refuse_outside_data


def draws_of(particles: Particles, site: str) -> Tensor:
    """(K, B, *event): the guide's draws of a site that is in no plate but `data`."""
    node = particles.guide_trace.nodes[site]
    return particle_first(node["value"], node, particles.num_particles)


def prior_draws(particles: Particles, site: str) -> Tensor:
    """(K, B, *event): draws of the prior, through which a learned prior gets its gradient.

    It is the model's at the guide's draws of the sites before it.
    """
    node = particles.model_trace.nodes[site]
    fn = node["fn"]
    draws = fn.rsample() if fn.has_rsample else fn.sample()
    return particle_first(draws, node, particles.num_particles)


def moments_of(particles: Particles, site: str) -> tuple[Tensor, Tensor]:
    """The mean and the variance of the guide's distributions, each (K, B, d)."""
    node = particles.guide_trace.nodes[site]
    mean, variance = (
        particle_first(moment, node, particles.num_particles)
        for moment in (node["fn"].mean, node["fn"].variance)
    )
    return mean, variance


def prior_covariance(particles: Particles, site: str) -> Tensor | None:
    r"""(d, d): the covariance of the prior over a batch, by the law of total covariance;
    None where it is not known.

    .. math:: \mathbb{E}_x[\mathrm{Cov}(z)] + \mathrm{Cov}_x(\mathbb{E}[z])

    The second term is zero but for a prior that depends on an input, such as a label.
    """
    node = particles.model_trace.nodes[site]
    fn = node["fn"]
    try:
        mean = particle_first(fn.mean, node, particles.num_particles)
        dim = mean.shape[-1]
        if factors(fn) is not None:
            variance = particle_first(fn.variance, node, particles.num_particles)
            within = variance.reshape(-1, dim).mean(0).diag_embed()
        else:
            within = fn.covariance_matrix.reshape(-1, dim, dim).mean(0)
    except (NotImplementedError, AttributeError):
        return None
    means = mean.reshape(-1, dim)
    centred = means - means.mean(0)
    covariance: Tensor = within + centred.mT @ centred / len(means)
    return covariance


def cross_log_prob(particles: Particles, site: str) -> Tensor:
    r"""(B, *, B, d): log q(z_kid | x_j) at [i, k, j, d], each draw under the guide of every datum.

    The dims in the middle are those of the site's batch shape left of the `data` plate.
    """
    q = factors(particles.guide_trace.nodes[site]["fn"])
    assert q is not None  # `refuse` has seen to it
    value = particles.guide_trace.nodes[site]["value"]
    # the draws' datum goes to the front, and the guide's stays where its parameters have it
    log_prob: Tensor = q.log_prob(value.movedim(-2, 0).unsqueeze(-2))
    return log_prob


def refuse(treatment: str, site: str, particles: Particles, *, vector: bool) -> None:
    """Raise PairError for a site whose aggregate posterior a penalty cannot read.

    Args:
        treatment: its name, for the message.
        site: the site's name.
        particles: of the pair that is to be trained.
        vector: the site must be a vector whose guide factorises over dimensions.
    """
    refuse_outside_data(treatment, site, particles)
    in_guide = latent_names(particles.guide_trace)
    if site not in in_guide:
        raise PairError(
            f"{treatment}: site {site!r} is not drawn by the guide, so it has no posterior to shape"
        )
    earlier = in_guide[: in_guide.index(site) + 1]
    if missing := [name for name in earlier if name in particles.non_reparameterised]:
        raise PairError(
            f"{treatment}: its gradient runs through the draws of site {site!r}, but those of {missing} "
            f"carry no pathwise gradient. Use a weight, kl.Beta or a warm-up, or a guide whose draws are "
            f"reparameterised"
        )
    node = particles.guide_trace.nodes[site]
    plates = inner_plates(node)
    if plates or _masked(node["mask"]):
        what = f"in the plates {plates}" if plates else "masked"
        raise PairError(
            f"{treatment}: site {site!r} is {what}, so its draws are not one for each datum. Use a weight, "
            f"kl.Beta or a warm-up, or kl.FreeBits"
        )
    if not vector:
        return
    shape = tuple(node["fn"].event_shape)
    if len(shape) != 1:
        raise PairError(
            f"{treatment}: site {site!r} has event shape {list(shape)}, and its dimensions must be one "
            f"vector, [d]: put .to_event(1) on its distribution, or use kl.MMD"
        )
    if factors(node["fn"]) is None:
        raise PairError(
            f"{treatment}: the guide's {type(node['fn']).__name__} of site {site!r} does not factorise over "
            f"dimensions, so that each datum's own posterior would count as correlation. Use a guide with "
            f"independent dimensions, such as guides.MeanField, or kl.MMD"
        )


def _masked(mask: Any) -> bool:
    return mask is not None and mask is not True
