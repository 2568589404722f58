"""A pair's programs again, with latents that an earlier run drew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyro import poutine
from torch import Tensor

from ppl_vae.core import drawing
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import auxiliary_names, latent_names
from ppl_vae.core.subsampling import whole_plate


def values_of(particles: Particles) -> dict[str, Tensor]:
    """The guide's draws by site, without a gradient; those that it made for itself too, which say whence."""
    trace = particles.guide_trace
    names = [*auxiliary_names(trace), *latent_names(trace)]
    return {name: trace.nodes[name]["value"].detach() for name in names}


def replayed(pair: Pair, batch: Sequence[Tensor], values: Mapping[str, Tensor]) -> Particles:
    """One particle whose latents are given."""
    guide = poutine.condition(pair.guide, dict(values))
    with whole_plate(len(batch[0])):
        guide_trace = poutine.trace(guide).get_trace(*batch)
        for name in values:
            guide_trace.nodes[name]["is_observed"] = False
        return drawing.at_draws(pair.model, pair.guide, guide_trace, tuple(batch))


def last_alone(pair: Pair, batch: Sequence[Tensor], together: Particles) -> Particles:
    """The last of several particles again, alone."""
    single = values_of(drawing.draw(pair.model, pair.guide, tuple(batch)))
    last = {name: value[-1].reshape(single[name].shape) for name, value in values_of(together).items()}
    return replayed(pair, batch, last)
