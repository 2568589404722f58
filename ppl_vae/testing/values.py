"""The values of a pair's sites: finite, in the supports, and with a density."""

from __future__ import annotations

from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Size, Tensor, broadcast_shapes

from ppl_vae.core.constraints import (
    COUNTS_IN_BYTES,
    are_bytes_over_255,
    in_words,
    innermost_name,
    support_fault,
)
from ppl_vae.core.density import has_density
from ppl_vae.core.faults import short
from ppl_vae.core.missing import is_clean, takes_missing
from ppl_vae.core.sites import PairError, Site, is_bookkeeping


def check_values(trace: Trace, guide_trace: Trace) -> None:
    """Raise PairError for a value that is not finite, outside its distribution's support,
    or without a density.
    """
    for name, site in prune_subsample_sites(trace).nodes.items():
        if site["type"] != "sample":
            continue
        value = site["value"]
        if isinstance(value, Tensor) and not is_clean(value, takes_missing(site["fn"])):
            raise PairError(
                f"site {name!r}: its value has NaN or infinite entries "
                f"({int((~value.isfinite()).sum())} of {value.numel()}). {_where_from(site, value)}"
            )
        _check_mask(site)
        if fault := support_fault(site):
            raise PairError(". ".join([f"site {name!r}: {fault}", *_fix(site, guide_trace, fault)]))
        if not has_density(site["fn"]):
            continue
        try:
            site["fn"].log_prob(value, *site["args"], **site["kwargs"])
        except Exception as error:
            raise PairError(
                f"site {name!r}: log_prob of a value of shape {list(getattr(value, 'shape', []))} fails: "
                f"{short(error)}. The distribution has batch shape {list(site['fn'].batch_shape)} and event "
                f"shape {list(site['fn'].event_shape)}: the {'data' if site['is_observed'] else 'value'} "
                f"must fit its shape and its support"
            ) from error


def _where_from(site: Site, value: Tensor) -> str:
    if is_bookkeeping(site):
        return "Look at what it is computed from"
    if site["is_observed"] and bool(value.isnan().any()) and not takes_missing(site["fn"]):
        return "Clean the data; where NaN stands for a missing value, likelihoods.Mixed takes it"
    return "Clean the data" if site["is_observed"] else "Look at the guide's scale and its network"


def _check_mask(site: Site) -> None:
    """A mask or scale of another shape than the site's batch is broadcast, and masks something else."""
    batch_shape = site["fn"].batch_shape
    for what in ("mask", "scale"):
        factor = site[what]
        if isinstance(factor, Tensor) and not _fits(factor.shape, batch_shape):
            raise PairError(
                f"site {site['name']!r}: its {what} has shape {list(factor.shape)}, and its batch shape is "
                f"{list(batch_shape)}: poutine.{what} acts on whole events. For the entries of an event give "
                f"the {what} to the distribution within it, dist.Normal(loc, scale).mask(m).to_event(1), or "
                f"make a plate of that dim"
            )


def _fits(shape: Size, batch_shape: Size) -> bool:
    try:
        return broadcast_shapes(shape, batch_shape) == batch_shape
    except RuntimeError:
        return False


def _fix(site: Site, guide_trace: Trace, fault: str) -> list[str]:
    name, support = site["name"], in_words(site["fn"].support)
    if not site["is_observed"]:
        drawn = guide_trace.nodes[name]["fn"]
        return [
            f"The guide draws it from {innermost_name(drawn)}, whose values are {in_words(drawn.support)}: "
            f"give the guide a distribution over {support}, such as the prior's own family"
        ]
    if are_bytes_over_255(site["value"]):
        return [COUNTS_IN_BYTES]
    if fault.startswith("likelihoods."):
        return []  # it says itself what to do
    return [
        "Bring the data there, or give the model a likelihood for them: its support must hold them "
        f"({support})"
    ]
