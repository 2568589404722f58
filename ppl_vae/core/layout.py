"""A site's values with the dims in one order for all sites: particle, datum, inner plates, event."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ppl_vae.core.sites import data_frame

Site = dict[str, Any]


def particle_first(values: Tensor, site: Site, num_particles: int) -> Tensor:
    """A site's values as (K, B, *inner plates, *event), or (K, *plates, *event) outside the `data` plate.

    Args:
        values: the site's value or its distribution's mean, (..., *event), broadcastable to the site's
            batch shape.
        site: a site under a leftmost plate of particles (under none where K = 1).
        num_particles: K.
    """
    batch_shape, event_shape = site["fn"].batch_shape, site["fn"].event_shape
    values = values.expand(batch_shape + event_shape)
    # dims that no plate claims have size 1: they only make room between the plates
    claimed = {frame.dim for frame in site["cond_indep_stack"]}
    unclaimed = [dim for dim in range(-len(batch_shape), 0) if dim not in claimed and batch_shape[dim] == 1]
    values = values.squeeze(tuple(dim - len(event_shape) for dim in unclaimed))
    if num_particles == 1:
        values = values.unsqueeze(0)
    if data_frame(site) is None:
        return values
    return values.movedim(-len(event_shape) - 1, 1)
