"""Plates: those around a site that stand inside the plate of data."""

from __future__ import annotations

from ppl_vae.core.sites import PARTICLE_PLATE, Site, data_frame


def inner_plates(site: Site) -> dict[str, tuple[int, int]]:
    """The (dim, size) of the plates around a site, but those of data, of particles and of one slice."""
    data = data_frame(site)
    return {
        frame.name: (frame.dim, frame.size)
        for frame in site["cond_indep_stack"]
        if frame.dim is not None and frame is not data and frame.name != PARTICLE_PLATE and frame.size > 1
    }
