"""The rank of what made a datum among a guide's draws."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.layout import particle_first
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.replaying import replayed
from ppl_vae.core.sites import PairError, data_frame
from ppl_vae.evaluate.loop import Batch

LIKELIHOOD = "log p(x | z)"
"""What the quantity is called that sees how the latents go together, and with the data."""


def own_latents(sites: dict[str, Any]) -> dict[str, Tensor]:
    """The latents that made the data, by site, as the programs have them."""
    if shared := [name for name, site in sites.items() if data_frame(site) is None]:
        raise PairError(
            f"evaluate.calibration ranks the latents of each datum, and {shared} outside the plate 'data' "
            f"are shared by all of them: the guide knows them at the data of its training alone. Move them "
            f"into the plate"
        )
    return {name: site["value"] for name, site in sites.items()}


def ranked_of_truth(
    pair: Pair, simulated: tuple[Tensor, ...], values: dict[str, Tensor], batch: Batch
) -> dict[str, Tensor]:
    """What is ranked of the latents that made the data: (S, *event) by site, and their likelihood, (S,)."""
    drawn = set(_drawn(batch.draw(1)))
    if not drawn:
        raise PairError(
            "the guide draws no latents inside the plate 'data', so there is nothing to rank: what the model "
            "sums over has its exact posterior p(k | x)"
        )
    truth = replayed(pair, simulated, {name: value for name, value in values.items() if name in drawn})
    return {name: each[0] for name, each in _ranked(truth).items()}


def _drawn(particles: Particles) -> list[str]:
    if particles.global_sites:
        raise PairError(f"the guide draws {list(particles.global_sites)} outside the plate 'data'")
    return [name for name in particles.latent_sites if name in particles.guide_trace.nodes]


def _ranked(particles: Particles) -> dict[str, Tensor]:
    """(K, B, ...) by site, and (K, B) of the likelihood, on the host."""
    nodes, size = particles.guide_trace.nodes, particles.num_particles
    found = {
        name: particle_first(nodes[name]["value"], nodes[name], size).cpu() for name in _drawn(particles)
    }
    found[LIKELIHOOD] = particles.reconstruction.cpu()
    if bad := [name for name, value in found.items() if bool(value.isnan().any())]:
        raise PairError(f"NaN in {bad}: look for it in the parameters; check_pair tells which statement")
    return found


def ranks_of(batch: Batch, truth: dict[str, Tensor]) -> Tensor:
    """(B, D): how many draws lie below, and a part of the ties at random."""
    below: dict[str, Tensor] = {}
    ties: dict[str, Tensor] = {}
    for particles in batch.particles():
        for name, value in _ranked(particles).items():
            other = truth[name]
            # a likelihood of the same latents is the same to rounding only
            room = 64 * torch.finfo(value.dtype).eps * other.abs().clamp_min(1) if name == LIKELIHOOD else 0
            less, equal = value < other - room, (value - other).abs() <= room
            if name == LIKELIHOOD:
                equal |= value == other  # both -inf
                less &= ~equal
            below[name] = below.get(name, 0) + less.sum(0)
            ties[name] = ties.get(name, 0) + equal.sum(0)
    ranks = [below[name] + (torch.rand(ties[name].shape) * (ties[name] + 1)).long() for name in truth]
    return torch.cat([each.reshape(len(batch), -1) for each in ranks], 1)


def labels_of(name: str, value: Tensor) -> list[str]:
    """One for each element of a datum: z[0], or z[1, 2] where it has more dims."""
    shape = value.shape[1:]
    if not shape:
        return [name]
    places = torch.stack(torch.unravel_index(torch.arange(shape.numel()), shape), 1).tolist()
    return [f"{name}[{', '.join(map(str, place))}]" for place in places]
