"""What a penalty at an observed site is, what it sees of the particles, and the sites that it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ppl_vae.core.layout import particle_first
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, data_frame, inner_plates
from ppl_vae.estimators import Facts
from ppl_vae.kl.treatment import HasPenalty


@runtime_checkable
class SitePenalty(HasPenalty, Protocol):
    """A treatment of an observed site: a penalty on its data and their means given the latents.

    Attributes:
        facts: what is known of the bound less the penalty; `Facts("neither")` where it is no bound.
    """

    facts: Facts


Penalties = SitePenalty | Mapping[str, SitePenalty] | None
"""One penalty for the only observed site, or these by observed site."""


def by_site(penalties: Any, observed_sites: Callable[[], Sequence[str]]) -> dict[str, SitePenalty]:
    """The penalties of observed sites.

    Args:
        penalties: see `Penalties`.
        observed_sites: gives the names of the pair's, and is called where there are penalties alone.

    Raises:
        ValueError: for what is no penalty, a site that is not observed, or one penalty for several sites.
    """
    if penalties is None:
        return {}
    observed = observed_sites()
    if not isinstance(penalties, Mapping):
        if len(observed) != 1:
            raise ValueError(
                f"penalties={penalties!r} could be of any of the observed sites {list(observed)}: name it, "
                f"penalties={{site: ...}}"
            )
        penalties = {observed[0]: penalties}
    for site, each in penalties.items():
        if site not in observed:
            raise ValueError(f"penalties names {site!r}, but the pair's observed sites are {list(observed)}")
        if isinstance(each, type) or not isinstance(each, SitePenalty):
            made = " (make an object of it)" if isinstance(each, type) else ""
            raise ValueError(
                f"penalties must be of ppl_vae.penalties, such as penalties.MSSSIM(), or these by observed "
                f"site, got {each!r}{made}"
            )
    return dict(penalties)


def pictures_of(particles: Particles, site: str) -> tuple[Tensor, Tensor]:
    """The data and the means of their likelihood, each (K, B, *event); the means carry the gradient."""
    node = particles.model_trace.nodes[site]
    mean = particle_first(node["fn"].mean, node, particles.num_particles)
    return particle_first(node["value"], node, particles.num_particles).to(mean.dtype), mean


def refuse(treatment: str, site: str, particles: Particles, *, images: bool) -> None:
    """Raise PairError for a site whose pictures a penalty cannot compare.

    Args:
        treatment: its name, for the message.
        site: the site's name.
        particles: of the pair that is to be trained.
        images: a datum must be an image, (channels, height, width).
    """
    node = particles.model_trace.nodes[site]
    fn = node["fn"]
    what = ""
    if data_frame(node) is None or inner_plates(node):
        what = "does not stand in the plate of data alone, so that it is not one picture for each datum"
    elif node["mask"] is not None and node["mask"] is not True:
        what = "is masked, and a picture with gaps has no mean to be compared"
    elif images and len(fn.event_shape) != 3:
        what = f"has event shape {list(fn.event_shape)}, and an image is (channels, height, width)"
    if what:
        raise PairError(f"{treatment}: site {site!r} {what}")
    try:
        mean = fn.mean
    except NotImplementedError:
        mean = None
    if mean is None or bool(mean.isnan().any()) or not mean.requires_grad:
        raise PairError(
            f"{treatment}: the {type(fn).__name__} of site {site!r} has no mean with a gradient, and a "
            "picture is that mean: use a likelihood that has one, such as likelihoods.Bernoulli or Gaussian"
        )
    if particles.non_reparameterised:
        raise PairError(
            f"{treatment}: its gradient runs through the draws of {sorted(particles.non_reparameterised)}, "
            "which carry no pathwise gradient: use a guide whose draws are reparameterised"
        )
