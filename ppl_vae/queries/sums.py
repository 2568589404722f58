"""Finite sites that the model alone has: which they are, and draws of them given what is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pyro import poutine
from torch import Tensor

from ppl_vae.core.finite import can_be_summed, values_of
from ppl_vae.core.isolation import validation
from ppl_vae.core.one_by_one import runs_one_by_one
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import Program, Site, data_frame, is_summed
from ppl_vae.core.subsampling import whole_plate
from ppl_vae.core.summed import summed_draws
from ppl_vae.core.summing import run_at_all_values, sums_over
from ppl_vae.queries.handlers import latent_sites, repeated, run, sample_sites


def summed_sites(pair: Pair, batch: Sequence[Tensor]) -> dict[str, int]:
    """How many values each latent site has that the model alone has, and sums over."""
    guide = run(pair.guide, batch)
    model = run(poutine.replay(pair.model, trace=guide), batch)
    found = {name: values_of(model.nodes[name]["fn"]) for name in sums_over(model, guide)}
    return {name: len(values) for name, values in found.items() if values is not None}


def left_to_sums(pair: Pair, batch: Sequence[Tensor], sites: Mapping[str, Site]) -> list[str]:
    """Those of the model's latent sites that it has for itself, and sums over for each datum."""
    finite = [
        name for name, site in sites.items() if data_frame(site) is not None and can_be_summed(site["fn"])
    ]
    if not finite:
        return []
    with validation(False):  # the rows may be zeros, from which a guide makes anything
        drawn = latent_sites(run(pair.guide, batch))
    return [name for name in finite if name not in drawn and not name.endswith("_unobserved")]


def given_what_is_chosen(
    model: Program,
    names: Sequence[str],
    batch: Sequence[Tensor],
    count: int,
    plate_dim: int | None,
    first_dim: int,
    data: Mapping[str, Tensor],
    held: Sequence[str],
) -> dict[str, Tensor]:
    """Values of finite sites that the model sums over, drawn from p(k | what is chosen), for `several`.

    Args:
        model: without its observations but for those of `held`.
        names: the finite sites.
        batch, count, plate_dim: as `several`'s.
        first_dim: the first dim to the left of all plates of the pair.
        data: what is chosen, as `several` takes it; other sites, which the model draws, teach nothing.
    """
    if plate_dim is not None and runs_one_by_one(model):
        each = [
            given_what_is_chosen(
                model, names, batch, 1, None, first_dim, {n: v[i % len(v)] for n, v in data.items()}, held
            )
            for i in range(count)
        ]
        return {name: torch.stack([one[name] for one in each]) for name in names}
    plated = repeated(model, count, plate_dim)
    free = first_dim if plate_dim is None else first_dim - 1
    with whole_plate(len(batch[0])):
        trace = run_at_all_values(plated, names, data, batch, free)
    known = {
        name: site
        for name, site in sample_sites(trace).items()
        if is_summed(site) or name in data or (name in held and site["is_observed"])
    }
    return summed_draws(known, count)
