"""Whether a pair's programs would run on a GPU, seen on a machine that has none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_vae.core.density import has_density
from ppl_vae.core.faults import users_line
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.estimators import ELBO, MeanFieldELBO
from ppl_vae.testing.pretended_cuda import OtherDevice, PretendedCuda

HELP = (
    "make it where the data are, torch.zeros(3, device=x.device), and keep a constant of a Module by "
    "self.register_buffer('name', tensor), which .to() moves"
)


def gpu_notes(pair: Pair, batch: Sequence[Tensor]) -> tuple[str, ...]:
    """A line where a pair has a tensor of its own that stays on the CPU; none where a GPU is there to try."""
    if pair.device.type != "cpu" or torch.cuda.is_available():
        return ()
    sites: list[str] = []
    try:
        with PretendedCuda() as gpu:
            gpu.take(*pair.parameters(), *pair.buffers(), *batch)
            particles = ELBO().draw(pair.model, pair.guide, *batch)
            _densities(particles, sites)
            (MeanFieldELBO() if particles.without_density else ELBO()).total(particles)
    except Exception as error:  # of another kind: what is only pretended must not be what fails
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OtherDevice):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            where = users_line(cause) or ", ".join(sites[-1:])
            return (f"on a GPU the programs fail{where and f' at {where}'}: {cause}: {HELP}",)
    return ()


def _densities(particles: Particles, sites: list[str]) -> None:
    """The densities site by site, and which was the last."""
    for role, trace in (("guide", particles.guide_trace), ("model", particles.model_trace)):
        for name, site in trace.nodes.items():
            if site["type"] == "sample" and has_density(site["fn"]):
                sites.append(f"site {name!r} of the {role}")
                site["fn"].log_prob(site["value"])
    sites.clear()
