"""Downstream: the terms that a draw without a pathwise gradient moves, slice by slice of the inner plates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_vae.core.particles import Particles
from ppl_vae.core.plates import inner_plates
from ppl_vae.core.sites import latent_names
from ppl_vae.core.slices import Reach, reach_of
from ppl_vae.core.terms import draw_log_prob, in_slices, log_prob, transformed


class Score(NamedTuple):
    """What the score function's gradient of one site is made of.

    Attributes:
        log_draw: (K, *inner, B): log q of the draws, by slice of the inner plates; a 1 for each plate that
            the site is not in.
        reward: the same shape, without a gradient: the terms that are downstream of the draw in that slice.
    """

    log_draw: Tensor
    reward: Tensor


@dataclass(frozen=True)
class _Term:
    role: str
    name: str
    place: int
    values: Tensor
    plates: Mapping[str, tuple[int, int]]
    looks_at_its_draw: bool = True


def scores(particles: Particles, closed_form: bool = False) -> dict[str, Score]:
    r"""The scores of the sites without a pathwise gradient, each with the terms that it moves.

    .. math:: \nabla_\phi \mathbb{E}_q[f] = \mathbb{E}_q \sum_s \sum_j \nabla_\phi \log q(z^s_j \mid \cdot)
        \sum_{t \in D(s, j)} f_t

    What is downstream of a site s in slice j, D(s, j), follows from two things that a program shows. A term
    before the statements of the site and of all that the guide draws after it, in the program that the term
    is of, cannot look at the draw nor at what hangs on it. A term in another slice of a plate around both is
    independent of it, where between the two no site outside the plate was drawn, and none that looks across
    slices; the latter is found by trying (`slices.reach_of`). A term outside the plate is downstream of every
    slice. Programs keep nothing of a run but in their sites.

    Args:
        particles: of any pair.
        closed_form: take the KL of a site in closed form where there is one: it depends on the draws before
            the site alone.

    Schulman et al., Gradient Estimation Using Stochastic Computation Graphs, arXiv:1506.05254; Mnih and
    Gregor, Neural Variational Inference and Learning, arXiv:1402.0030, section 2.3.
    """
    scored = [name for name in particles.log_draw if name in particles.non_reparameterised]
    if not scored:
        return {}
    nodes = particles.guide_trace.nodes
    count, depth = particles.num_particles, particles.depth
    with torch.no_grad():
        terms = list(_terms(particles, closed_form))
        within = any(inner_plates(nodes[name]) for name in scored)
        reach = _reach(particles) if within else None
        rewards = {name: _reward(name, particles, terms, reach) for name in scored}
    found = {}
    for name, reward in rewards.items():
        if inner_plates(nodes[name]):
            log_draw = in_slices(draw_log_prob(nodes[name]), nodes[name], count, depth, plain=True)
        else:
            own = particles.log_draw[name]
            log_draw = own.reshape(count, *[1] * (depth - 1), own.shape[-1])
        found[name] = Score(log_draw, reward.expand(log_draw.shape))
    return found


def in_rows(found: Mapping[str, Score]) -> tuple[Tensor, Tensor]:
    """(K, S, B), twice: scores and rewards of all sites, slice after slice."""
    flat = [
        [each.flatten(1, -2) if each.dim() > 2 else each.unsqueeze(1) for each in score]
        for score in found.values()
    ]
    log_draw, reward = (torch.cat(parts, 1) for parts in zip(*flat, strict=True))
    return log_draw, reward


def _reach(particles: Particles) -> Reach | None:
    """What looks across slices; None where it cannot be tried, and then everything is taken to."""
    if particles.programs is None:
        return None
    try:
        return reach_of(*particles.programs)
    except Exception:  # a flow without an inverse, a run under torch's own transforms
        return None


def _terms(particles: Particles, closed_form: bool) -> Iterator[_Term]:
    """Every term of the log-weights by slice, with its sign and weight, and its place in its program."""
    traces = {"model": particles.model_trace, "guide": particles.guide_trace}
    places = {role: {name: i for i, name in enumerate(trace.nodes)} for role, trace in traces.items()}
    count, depth = particles.num_particles, particles.depth

    def term(role: str, name: str, summed: Tensor, sign: float) -> _Term:
        site = traces[role].nodes[name]
        # a sum over finite sites has no slices left, and a flow remembers the density of its last draw alone
        whole = (role == "model" and name in particles.under_sum) or transformed(site["fn"]) is not None
        plates = {} if whole else inner_plates(site)
        if plates:
            values = in_slices(log_prob(site), site, count, depth)
        else:
            values = summed.reshape(count, *[1] * (depth - 1), summed.shape[-1])
        weight = particles.kl_weight.get(name, 1.0)
        return _Term(role, name, places[role][name], sign * weight * values, plates)

    for name, summed in particles.log_likelihood.items():
        yield term("model", name, summed, 1.0)
    for name in particles.latent_sites:
        divergence = particles.divergence(name) if closed_form else None
        if divergence is not None:
            site = traces["guide"].nodes[name]
            values = -particles.kl_weight.get(name, 1.0) * in_slices(divergence, site, count, depth)
            yield _Term("guide", name, places["guide"][name], values, inner_plates(site), False)
            continue
        if name in particles.log_prior:
            yield term("model", name, particles.log_prior[name], 1.0)
        if name in particles.log_guide:
            yield term("guide", name, particles.log_guide[name], -1.0)


def _reward(site: str, particles: Particles, terms: list[_Term], reach: Reach | None) -> Tensor:
    nodes = particles.guide_trace.nodes
    plates = inner_plates(nodes[site])
    order = latent_names(particles.guide_trace)
    # what is drawn after the site may hang on it, and stand before it in the model
    hanging = order[order.index(site) :]
    first = {"guide": _first(hanging, nodes), "model": _first(hanging, particles.model_trace.nodes)}
    mixed = {plate: _mixed_from(site, plate, particles, reach) for plate in plates}
    total = torch.zeros((), dtype=particles.reconstruction.dtype, device=particles.reconstruction.device)
    for term in terms:
        if term.place < first[term.role] or (term.name == site and not term.looks_at_its_draw):
            continue
        values = term.values
        for plate, (dim, _) in term.plates.items():
            if plate not in plates or mixed[plate].takes(term):
                values = values.sum(dim, keepdim=True)
        total = total + values
    return total


def _first(names: Sequence[str], nodes: Mapping[str, Any]) -> float:
    """The place of the first of some sites in a program; infinity where it has none of them."""
    return min((float(place) for place, name in enumerate(nodes) if name in names), default=float("inf"))


class _Mixed(NamedTuple):
    """From which place of each program on, and at which sites of the model, slices of a plate are mixed."""

    places: Mapping[str, float]
    across: frozenset[str]

    def takes(self, term: _Term) -> bool:
        return term.place >= self.places[term.role] or term.name in self.across


def _mixed_from(site: str, plate: str, particles: Particles, reach: Reach | None) -> _Mixed:
    """Where a site's draw in one slice of a plate can have reached other slices."""
    if reach is None:
        return _Mixed({"model": -1, "guide": -1}, frozenset())
    nodes = particles.guide_trace.nodes
    order = latent_names(particles.guide_trace)
    later = order[order.index(site) + 1 :]
    carriers, through = [site], list[str]()
    for place, name in enumerate(later):
        outside = plate not in inner_plates(nodes[name])
        if outside or any((each, "guide", name, plate) in reach.across for each in carriers):
            through = later[place:]  # what is drawn from there on may look at every slice
            break
        carriers.append(name)
    places = {"guide": _first(through, nodes), "model": _first(through, particles.model_trace.nodes)}
    across = frozenset(
        term
        for each, role, term, where in reach.across
        if role == "model" and where == plate and each in carriers
    )
    return _Mixed(places, across)
