"""Summed: what is read off a model's trace that has finite sites with all their values at once.

The log-densities of the sites that depend on them, the sums taken, and draws of them given all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.finite import values_of
from ppl_vae.core.sites import PARTICLE_PLATE, Site, is_summed
from ppl_vae.core.sum_product import Factor, SumProduct, aligned, chosen, components
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

    Laid out as the values that the model draws itself, one for each particle, plate and datum. A site that is
    left out of `sites` is one that nobody knows: of it nothing is learned.
    """
    model = SummedModel(sites)
    algebra, factors = model.algebra, list(model.factors.values())
    found = {}
    # outer plates first: given those, the slices further in are independent
    for name in sorted(
        (n for n, site in sites.items() if is_summed(site)), key=lambda n: len(algebra.plates[n])
    ):
        logits = _log_marginal(algebra, factors, sites[name], num_particles)
        index = torch.distributions.Categorical(logits=logits).sample()
        frames = _frames(sites[name])
        factors = [chosen(factor, name, Factor(index, tuple(f.name for f in frames))) for factor in factors]
        values = values_of(sites[name]["fn"])
        assert values is not None
        event = sites[name]["fn"].event_shape
        value = values.reshape(len(values), *event)[index]
        ones, sizes = [frame.dim for frame in frames], index.shape
        shape = [sizes[ones.index(dim)] if dim in ones else 1 for dim in range(ones[0], 0)]
        found[name] = value.reshape(*shape, *event)
    return found


def conditional_probabilities(sites: Mapping[str, Site], num_particles: int, name: str) -> Tensor:
    """(K, *inner plates, B, C): p(site | x, z) of one that is summed over, the others summed out."""
    model = SummedModel(sites)
    logits = _log_marginal(model.algebra, list(model.factors.values()), sites[name], num_particles)
    probabilities = logits.softmax(-1)
    own = any(frame.name == PARTICLE_PLATE for frame in _frames(sites[name]))
    return probabilities if own else probabilities.unsqueeze(0)


def _frames(site: Site) -> list[Any]:
    """The plates of a site, the leftmost first."""
    return sorted((f for f in site["cond_indep_stack"] if f.dim is not None), key=lambda f: f.dim)


def _log_marginal(algebra: SumProduct, factors: Sequence[Factor], site: Site, num_particles: int) -> Tensor:
    """(*plates, C): log p of the values of a site and of what is known, the other sums taken."""
    frames, name = _frames(site), site["name"]
    sizes = [num_particles if frame.name == PARTICLE_PLATE else frame.size for frame in frames]
    values = values_of(site["fn"])
    assert values is not None
    if not any(name in factor.dims for factor in factors):  # one value alone
        return torch.zeros(*sizes, len(values), device=values.device)
    marginal = algebra.total(factors, but=[name])
    return aligned(marginal, (*(frame.name for frame in frames), name)).expand(*sizes, len(values))
