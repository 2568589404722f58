"""Planning: whether a pair can code its data, and how; what it cannot code is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.poutine.util import site_is_factor
from torch import Tensor

from ppl_vae.compression.alphabet import Alphabet, alphabet_of, as_bits
from ppl_vae.compression.buckets import Reference, is_same_for_all, moments, refuse_without_functions
from ppl_vae.compression.element_rows import Layout
from ppl_vae.compression.plan import DataSite, LatentSite, Plan, families, split
from ppl_vae.compression.programs import LIKELIHOODS, Programs, exact, latent_parts
from ppl_vae.core.constraints import innermost_name
from ppl_vae.core.dependence import readings
from ppl_vae.core.elements import OfSeveralFamilies, elements
from ppl_vae.core.isolation import random_numbers
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import (
    PairError,
    Site,
    data_frame,
    is_bookkeeping,
    is_summed,
    masked_observations,
    observed_names,
)
from ppl_vae.core.subsampling import draw_whole
from ppl_vae.core.succession import Succession
from ppl_vae.queries.places import element_places
from ppl_vae.sampling.point_mass import refuse_point_mass

WHAT = "compression"
ROWS, LEAST_ROWS = 256, 64
"""Data that are looked at while it is planned; fewer are looked at several times."""
MOST_NUMBERS = 2**24
"""Probabilities in the tables of a batch, 128 MiB, beyond which it is made smaller."""

Sites = Mapping[str, Site]


def particles_of(programs: Programs, tensors: Sequence[Tensor]) -> Particles:
    """One draw of a batch from guide and model, with all that no code can treat refused.

    Raises:
        PairError: naming the sites.
    """
    batch = programs.batch(tensors)
    particles = draw_whole(programs.pair.model, programs.pair.guide, batch)
    refuse_point_mass(particles, WHAT)
    if particles.global_sites:
        raise PairError(
            f"{WHAT} codes one datum after the other, and the latents {list(particles.global_sites)} outside "
            "the plate 'data' are shared by all: move them into the plate"
        )
    model = particles.model_trace
    if parted := masked_observations(model):
        raise PairError(
            f"{WHAT}: the sites {parted} are observed for some data only (obs_mask), so that a decoder would "
            "not know which: give the pair complete data"
        )
    if summed := [name for name, site in model.nodes.items() if is_summed(site)]:
        raise PairError(
            f"{WHAT}: the model sums over {summed}, which the guide does not draw, and a code must name "
            f"their values: give them to the guide, pyro.sample({summed[0]!r}, ...) there too"
        )
    for trace in (model, particles.guide_trace):
        for name, site in trace.nodes.items():
            if site["type"] == "sample":
                _refuse_weighted(name, site)
    return particles


def _refuse_weighted(name: str, site: Site) -> None:
    if site_is_factor(site):
        raise PairError(f"{WHAT}: {name!r} is a pyro.factor, which is no distribution that could be coded")
    if is_bookkeeping(site):
        return
    if site["infer"].get("is_auxiliary"):
        raise PairError(f"{WHAT}: the guide draws {name!r} for itself, which the model has no prior of")
    weighted = site["mask"] is not None or isinstance(site["scale"], Tensor) or site["scale"] != 1.0
    inner: Any = site["fn"]
    while hasattr(inner, "base_dist"):
        weighted = weighted or isinstance(inner, MaskedDistribution)
        inner = inner.base_dist
    if weighted:
        raise PairError(
            f"{WHAT}: site {name!r} has a mask or a scale, with which its density sums to 1 no more: a code "
            "needs the whole distribution"
        )


def data_sites(
    particles: Particles,
    some: Sequence[Tensor],
    tensors: Sequence[Tensor],
    names: Sequence[str],
    programs: Programs,
) -> tuple[DataSite, ...]:
    """The observed sites, each with the argument that it observes and its alphabets.

    Args:
        particles: of some rows.
        some: these.
        tensors: all data.
        names: of the arguments.

    Raises:
        PairError: for a likelihood that is continuous or does not factorise, for one that looks at its own
            data, and for a site that observes no argument as it stands.
    """
    model, found = particles.model_trace, []
    for name in observed_names(model):
        site = model.nodes[name]
        _require_in_plate(site)
        fn = elements(site["fn"], name, LIKELIHOODS)
        layout = _layout(site, fn)
        argument = _argument_of(name, layout.rows_first(site["value"]), some, programs)
        if argument is None:
            raise PairError(
                f"{WHAT}: site {name!r} observes what is made of the arguments {list(names)} and none of "
                f"them as it stands, so that a decoder could not give them back: transform the data before, "
                f"and write obs={names[0] if names else 'x'}"
            )
        every = as_value(tensors[argument], layout, fn)
        parts = []
        for part, values in zip(families(fn), split(fn, every)):
            own = layout._replace(event=tuple(part.batch_shape[1 + len(layout.inner) :]))
            alphabet = alphabet_of(part, own.rows_first(values), name)
            if alphabet is None:
                raise PairError(
                    f"{WHAT}: site {name!r}: its {innermost_name(part)} is continuous, and a value of it has "
                    "no probability: code rounded data under a discrete likelihood, such as "
                    "likelihoods.DiscretisedLogisticMixture, Categorical, Poisson or Bernoulli"
                )
            parts.append((own, alphabet))
        found.append(DataSite(name, argument, layout, tuple(parts)))
    _refuse_own_readings(programs, tensors, found, names)
    return tuple(found)


def latent_sites(one: Particles, other: Particles, bits: int) -> tuple[LatentSite, ...]:
    """The latent sites in the model's order.

    Args:
        one, other: two draws of the same rows.
        bits: 2^bits buckets for each number.
    """
    found = []
    for name in one.log_prior:
        if name not in one.model_trace.nodes or one.model_trace.nodes[name]["is_observed"]:
            continue
        site, guide = one.model_trace.nodes[name], one.guide_trace.nodes[name]
        whole = [latent_parts(each.model_trace.nodes[name]["fn"], name, "model") for each in (one, other)]
        _require_in_plate(site)
        in_turn = isinstance(whole[0], Succession)
        prior = [each.first() if isinstance(each, Succession) else each for each in whole]
        layout = _layout(site, prior[0])
        if in_turn:
            layout = layout._replace(event=(whole[0].num_parts, *layout.event))
        drawn_from = latent_parts(guide["fn"], name, "guide")
        if isinstance(drawn_from, Succession):
            drawn_from = drawn_from.first()
        if isinstance(prior[0], OfSeveralFamilies):
            raise PairError(f"{WHAT}: the latent site {name!r} has several families: make a site of each")
        alphabet = alphabet_of(prior[0], None, name)
        if alphabet is None and prior[0].support.is_discrete:
            raise PairError(
                f"{WHAT}: site {name!r}: its {innermost_name(prior[0])} has no last value, and its "
                "values are listed: use a Categorical or Binomial latent"
            )
        kind: Alphabet | Reference
        if alphabet is not None:
            kind = alphabet
        else:
            refuse_without_functions(prior[0], drawn_from, name)
            if not in_turn and is_same_for_all(prior[0], prior[1], layout):
                kind = Reference(bits)
            else:
                draws = [
                    each.guide_trace.nodes[name]["value"].expand(site["value"].shape) for each in (one, other)
                ]
                kind = moments(torch.cat([layout.rows_first(each) for each in draws]), prior[0], bits)
        found.append(LatentSite(name, layout, kind))
    return tuple(found)


def as_value(x: Tensor, layout: Layout, fn: Any) -> Tensor:
    """An argument's rows, laid out as the value of the site that observes it."""
    rows = x.reshape(len(x), layout.num_elements, *layout.element)
    return layout.as_in_site(rows)


def _layout(site: Site, fn: Any) -> Layout:
    """Of the elements: (*inner, rows, *event) are the dims of their batch."""
    inner = tuple(site["fn"].batch_shape[:-1])
    return Layout(inner, tuple(fn.batch_shape[len(inner) + 1 :]), tuple(fn.event_shape))


def _require_in_plate(site: Site) -> None:
    if data_frame(site) is None:
        raise PairError(f"{WHAT}: site {site['name']!r} stands outside the plate of data: move it into it")


def _argument_of(name: str, rows: Tensor, some: Sequence[Tensor], programs: Programs) -> int | None:
    """The argument whose rows a site observes, in their order."""
    found = []
    for number, x in enumerate(some):
        if x.numel() == rows.numel():
            flat = x.reshape(rows.shape)
            flat = flat.to(programs.dtype) if flat.is_floating_point() else flat
            equal = rows.dtype == flat.dtype and torch.equal(as_bits(rows), as_bits(flat))
            if equal or bool((rows.double() == flat.double()).all()):
                found.append(number)
    if len(found) > 1:  # alike in these rows: which of them does the site follow?
        places = element_places(programs.pair, programs.batch(some), [name])[name]
        found = [number for number in found if number in places] or found
    return found[0] if found else None


def _refuse_own_readings(
    programs: Programs, tensors: Sequence[Tensor], sites: Sequence[DataSite], names: Sequence[str]
) -> None:
    batch = programs.batch([each[:4] for each in tensors])
    coded = {site.argument for site in sites}
    for reading in readings(programs.pair.model, batch, torch.device("cpu")):
        if reading.argument in coded and reading.moves:
            name = names[reading.argument] if reading.argument < len(names) else f"number {reading.argument}"
            raise PairError(
                f"{WHAT}: the model reads the values of its argument {name!r} outside obs=: "
                f"{reading.in_words()}. A decoder does not know them before it has decoded them: take what "
                "is read, a library size for instance, as an argument of its own"
            )


def plan_of(
    pair: Pair, tensors: Sequence[Tensor], bits: int, num_samples: int, batch_size: int | None
) -> tuple[Plan, Programs]:
    """The plan of a code of all data, with pushes after pops, and the programs that it is for.

    In float64; in the pair's own type where the programs do not run in that.

    Raises:
        PairError: for what cannot be coded.
    """
    dtypes = dict.fromkeys((torch.float64, pair.dtype))
    for dtype in dtypes:
        try:
            with exact(dtype), random_numbers(0, torch.device("cpu")):
                return _plan_in(Programs(pair, dtype), tensors, bits, num_samples, batch_size)
        except PairError:
            if dtype == pair.dtype:
                raise
    raise AssertionError(dtypes)


def _plan_in(
    programs: Programs, tensors: Sequence[Tensor], bits: int, num_samples: int, batch_size: int | None
) -> tuple[Plan, Programs]:
    # from all parts of the data, which may be in an order; and of few each several times, for their moments
    count = min(ROWS, max(len(tensors[0]), LEAST_ROWS))
    chosen = torch.linspace(0, len(tensors[0]) - 1, count).round().long()
    some = [each[chosen] for each in tensors]
    one, other = particles_of(programs, some), particles_of(programs, some)
    names = programs.pair.arguments or tuple(f"number {number}" for number in range(len(tensors)))
    data = data_sites(one, some, tensors, names, programs)
    latents = latent_sites(one, other, bits)
    known = {site.name for site in data} | {site.name for site in latents}
    by_model = tuple(name for name in one.model_trace.nodes if name in known)
    drawn = {site.name for site in latents}
    by_guide = tuple(name for name in one.guide_trace.nodes if name in drawn)
    size = min(batch_size or _batch_size(len(tensors[0]), data, latents, num_samples), len(tensors[0]))
    return Plan(data, latents, by_model, by_guide, False, size, num_samples, programs.dtype), programs


def _batch_size(num_data: int, data: Sequence[DataSite], latents: Sequence[LatentSite], count: int) -> int:
    """A thousandth of the data, shared by the samples, or as many as have tables of moderate size."""
    numbers = count * sum(site.layout.num_elements * site.kind.size for site in latents)
    numbers += sum(layout.num_elements * book.size for site in data for layout, book in site.parts)
    return max(1, min(num_data // (1000 * count), MOST_NUMBERS // max(1, numbers)))
