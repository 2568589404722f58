"""Summed: what is read off a model's trace that has finite sites with all their values at once.

The log-densities of the sites that depend on them, the sums taken, and draws of them given all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ppl_vae.core.finite import values_of
from ppl_vae.core.sites import PARTICLE_PLATE, Site, is_summed
from ppl_vae.core.sum_product import Factor, aligned, chosen, components
from ppl_vae.core.summed_model import SummedModel


def summed_terms(sites: Mapping[str, Site], num_particles: int) -> dict[str, Tensor]:
    r"""(K, B) by site: the log-densities of the sites that depend on sites which are summed over.

    .. math:: \log p(x_1) = \log \sum_k p(k) p(x_1 \mid k), \qquad
        \log p(x_2 \mid x_1) = \log \sum_k p(k) p(x_1 \mid k) p(x_2 \mid k) - \log p(x_1), \quad \dots

    Each is the density of its site given those before it in the model: together they are the joint one. A
    mask acts on a single density, inside the sum, and on no site that is summed over; a scale outside.

    Raises:
        PairError: for a sum that is not one of each datum, or that would be too large, by the sites' names.
    """
    model = SummedModel(sites)
    found: dict[str, Tensor] = {}
    for names in components(model.factors, model.algebra.plates):
        found |= _chained(model, names, num_particles)
    return found


def _chained(model: SummedModel, names: Sequence[str], num_particles: int) -> dict[str, Tensor]:
    """The terms of sites that share variables, in the model's order."""
    algebra = model.algebra
    last = {dim: name for name in names for dim in model.factors[name].dims if dim in algebra.plates}
    scale = model.scale(names)
    terms: dict[str, Tensor] = {}
    left: list[Factor] = []
    before: Tensor | None = None
    waiting: list[str] = []
    for name in names:
        left.append(model.factors[name])
        waiting += [variable for variable, user in last.items() if user == name]
        if is_summed(model.nodes[name]):
            continue
        left = algebra.finished(left, waiting)
        present = {dim for factor in left for dim in factor.dims}
        waiting = [variable for variable in waiting if variable in present]
        total = model.per_datum(algebra.total(left), num_particles)
        term = total if before is None else total - before
        terms[name] = term if isinstance(scale, float) and scale == 1.0 else term * scale
        before = total
    return terms


def summed_draws(sites: Mapping[str, Site], num_particles: int) -> dict[str, Tensor]:
    r"""Values of the sites that are summed over, drawn from p(k | x, z) at the other sites' values.

    Laid out as the values that the model draws itself, one for each particle, plate and datum.
    """
    model = SummedModel(sites)
    algebra, factors = model.algebra, list(model.factors.values())
    found = {}
    # outer plates first: given those, the slices further in are independent
    for name in sorted(
        (n for n, site in sites.items() if is_summed(site)), key=lambda n: len(algebra.plates[n])
    ):
        frames = sorted(
            (f for f in sites[name]["cond_indep_stack"] if f.dim is not None), key=lambda f: f.dim
        )
        dims = tuple(frame.name for frame in frames)
        sizes = [num_particles if frame.name == PARTICLE_PLATE else frame.size for frame in frames]
        values = values_of(sites[name]["fn"])
        assert values is not None
        count, event = len(values), sites[name]["fn"].event_shape
        if any(name in factor.dims for factor in factors):
            marginal = algebra.total(factors, but=[name])
            logits = aligned(marginal, (*dims, name)).expand(*sizes, count)
            index = torch.distributions.Categorical(logits=logits).sample()
        else:  # one value alone
            index = torch.zeros(sizes, dtype=torch.long, device=values.device)
        factors = [chosen(factor, name, Factor(index, dims)) for factor in factors]
        value = values.reshape(count, *event)[index]
        ones = [frame.dim for frame in frames]
        shape = [sizes[ones.index(dim)] if dim in ones else 1 for dim in range(ones[0], 0)]
        found[name] = value.reshape(*shape, *event)
    return found
