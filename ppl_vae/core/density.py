"""Distributions that can be drawn from and have a known divergence, but no density that can be computed."""

from __future__ import annotations

from typing import Any

from ppl_vae.core.constraints import innermost_name
from ppl_vae.core.sites import PairError, Site

WAY_OUT = (
    "Use estimators.MeanFieldELBO and evaluate.bounds, which take the divergence from the guide's "
    "distribution; importance weights, and chains that move latents, need a density"
)


def has_density(fn: Any) -> bool:
    """Whether a distribution's `log_prob` can be computed; one where it cannot says `has_density = False`.

    Such a distribution makes a pair with a guide's whose divergence from it is known to
    `torch.distributions.kl.register_kl`, exactly or as an unbiased estimate. What needs the density
    refuses it by the site's name.

    >>> import pyro.distributions as dist
    >>> has_density(dist.Normal(0.0, 1.0))
    True
    """
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return bool(getattr(fn, "has_density", True))


def require_density(site: Site) -> None:
    """Raise PairError for a site whose distribution has no density that can be computed."""
    if not has_density(site["fn"]):
        raise PairError(
            f"site {site['name']!r}: {type(site['fn']).__name__} has no density that can be computed. "
            f"{WAY_OUT}"
        )


def no_divergence(guide: Site | None, model: Site | None, site: str) -> str:
    """The message for a site without a density whose divergence is not known either."""
    names = ["nothing" if each is None else innermost_name(each["fn"]) for each in (guide, model)]
    return (
        f"site {site!r}: it has no density that can be computed, and no divergence is known of the guide's "
        f"{names[0]} from the model's {names[1]}. Use the guide that belongs to the model, or register one "
        "with torch.distributions.kl.register_kl; both programs draw their sites in one order, under the "
        "same masks and scales"
    )
