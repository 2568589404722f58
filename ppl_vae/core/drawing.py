"""Drawing: the guide run K times at once, the model on its draws, and the particles of both traces."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites, site_is_subsample
from torch import Tensor

from ppl_vae.core.alike import check_latents_alike
from ppl_vae.core.faults import refusal
from ppl_vae.core.isolation import one_thread
from ppl_vae.core.one_by_one import NOT_ONE_BY_ONE, SameRows, joined, runs_one_by_one
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import (
    PARTICLE_PLATE,
    PairError,
    Program,
    Site,
    SitesDifferError,
    check_sites_match,
    data_frame,
    data_plate_of,
    is_deterministic,
    is_summed,
    left_to_the_model,
    plate_nesting,
)
from ppl_vae.core.slices import refuse_across
from ppl_vae.core.summed import summed_draws, summed_terms
from ppl_vae.core.summing import summed_run, sums_over
from ppl_vae.core.terms import (
    Lazily,
    draw_term,
    is_plain,
    ratio,
    refuse_partly_reparameterised,
    term_of,
    transformed,
)


@one_thread
def draw(
    model: Program,
    guide: Program,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    num_particles: int = 1,
    guide_handler: AbstractContextManager[Any] | None = None,
) -> Particles:
    """Run the guide K times at once and the model on its draws: one pair of traces, one Particles.

    Finite latent sites that the model alone has are summed over, see `summing`.

    Args:
        model, guide: the two programs.
        args, kwargs: what both are called with.
        num_particles: K.
        guide_handler: a Pyro effect handler around the guide's run alone, which may change its draws.

    Raises:
        PairError: sites that do not match, a `data` plate that is not at dim=-1, a program that fails; naming
            the site, the value or shape, and the fix.
    """
    try:
        return _draw(model, guide, args, kwargs or {}, num_particles, guide_handler)
    except Exception as error:
        found = refusal(error, model, guide, args, kwargs or {}, num_particles)
        if found is error:
            raise
        raise found from error


def _draw(
    model: Program,
    guide: Program,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    num_particles: int,
    guide_handler: AbstractContextManager[Any] | None,
) -> Particles:
    plated = guide
    if num_particles > 1:
        plate_dim = particle_dim(model, guide, args, kwargs)
        if runs_one_by_one(model, guide):
            if guide_handler is not None:
                raise PairError(NOT_ONE_BY_ONE)
            with SameRows():
                singles = [_draw(model, guide, args, kwargs, 1, guide_handler) for _ in range(num_particles)]
            return joined(singles, plate_dim)
        plated = pyro.plate(PARTICLE_PLATE, num_particles, dim=plate_dim)(guide)
    with guide_handler or nullcontext():
        guide_trace = poutine.trace(plated).get_trace(*args, **kwargs)
    return at_draws(model, guide, guide_trace, args, kwargs, num_particles)


def at_draws(
    model: Program,
    guide: Program,
    guide_trace: Trace,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    num_particles: int = 1,
) -> Particles:
    """The particles at K draws of the guide that are at hand; arguments as `draw`'s."""
    kwargs = kwargs or {}
    programs = model, guide, args, kwargs
    plated = model
    if num_particles > 1:
        plate_dim = particle_dim(model, guide, args, kwargs)
        plated = pyro.plate(PARTICLE_PLATE, num_particles, dim=plate_dim)(model)
    known = _sums.setdefault(model, weakref.WeakKeyDictionary())
    if not known.get(guide):
        # what the first run draws of sites that are to be summed over must not count
        state = None if guide in known else torch.get_rng_state()
        known[guide] = False
        model_trace = poutine.trace(poutine.replay(plated, trace=guide_trace)).get_trace(*args, **kwargs)
        try:
            return replace(read(model_trace, guide_trace, num_particles), args=args, programs=programs)
        except SitesDifferError:
            alone = sums_over(model_trace, guide_trace)
            if not alone:
                raise
        refuse_across({name: model_trace.nodes[name] for name in alone}, model, guide, args, kwargs)
        known[guide] = True
        if state is not None:
            torch.set_rng_state(state)
    nesting = plate_nesting(model, guide, args, kwargs) + (num_particles > 1)
    try:
        model_trace = summed_run(plated, guide_trace, args, kwargs, -nesting - 1)
    except PairError as error:
        if num_particles > 1 and error.__cause__ is not None:
            fault = _fault_alone(model, guide, args, kwargs)
            # where a single particle goes, they are at fault, and not the sum
            raise (error.__cause__ if fault is None else fault) from None
        raise
    return replace(read(model_trace, guide_trace, num_particles), args=args, programs=programs)


def _fault_alone(
    model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Exception | None:
    """Why the sum over finite sites of the model cannot be taken at a single particle; None where it can."""
    with torch.no_grad(), poutine.block(), torch.random.fork_rng(devices=[]):
        try:
            at_draws(model, guide, poutine.trace(guide).get_trace(*args, **kwargs), args, kwargs)
        except Exception as error:
            return error
    return None


def with_summed_draws(guide_trace: Trace, particles: Particles) -> Trace:
    """A guide's trace and draws of the sites that the model sums over, from p(k | x, z), as if it had
    drawn them.
    """
    sites = dict(_random_sites(particles.model_trace))
    trace = guide_trace.copy()
    if any(map(is_summed, sites.values())):
        for name, value in summed_draws(sites, particles.num_particles).items():
            infer = {"is_auxiliary": False}
            trace.add_node(name, **{**sites[name], "value": value, "infer": infer})
    return trace


_sums: weakref.WeakKeyDictionary[Any, weakref.WeakKeyDictionary[Any, bool]] = weakref.WeakKeyDictionary()
"""Whether a pair's model has finite sites of its own, as the first run has shown."""


def particle_dim(model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """The dim of the particles: the first to the left of all plates of a pair."""
    return -(plate_nesting(model, guide, args, kwargs) + 1)


def read(model_trace: Trace, guide_trace: Trace, num_particles: int) -> Particles:
    """Particles from a guide's trace and the trace of the model replayed on it."""
    subsample = _indices(guide_trace, model_trace)
    model_trace, guide_trace = prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace)
    check_sites_match(model_trace, guide_trace)
    check_latents_alike(model_trace, guide_trace)
    missing = left_to_the_model(model_trace, guide_trace)
    log_likelihood, log_prior, global_log_prior, under_sum = _model_terms(model_trace, num_particles, missing)
    log_guide, global_log_guide, log_draw, global_log_draw, scored = _guide_terms(guide_trace, num_particles)
    return Particles(
        log_likelihood,
        log_prior,
        log_guide,
        global_log_prior,
        global_log_guide,
        _scale(model_trace, guide_trace),
        scored,
        model_trace,
        guide_trace,
        log_draw=log_draw,
        global_log_draw=global_log_draw,
        subsample=subsample,
        under_sum=under_sum,
    )


def _model_terms(
    trace: Trace, num_particles: int, missing: Container[str]
) -> tuple[dict[str, Tensor], Lazily, dict[str, Tensor], frozenset[str]]:
    """The log-likelihoods, the log-priors inside and outside the `data` plate, and whose terms are sums."""
    observed, inside, outside = dict[str, Tensor](), Lazily(), dict[str, Tensor]()
    sites = {name: site for name, site in _random_sites(trace) if name not in missing}
    sums = summed_terms(sites, num_particles) if any(map(is_summed, sites.values())) else {}
    for name, site in sites.items():
        if is_summed(site):
            continue
        term = partial(sums.__getitem__, name) if name in sums else partial(term_of, site, num_particles)
        if data_frame(site) is None:
            outside[name] = term()
        elif site["is_observed"]:
            observed[name] = term()
        else:
            _add(inside, site, term)
    return observed, inside, outside, frozenset(sums)


def _guide_terms(
    trace: Trace, num_particles: int
) -> tuple[Lazily, dict[str, Tensor], Lazily, Lazily, frozenset[str]]:
    """The terms inside and outside the `data` plate, of the draws, and the sites without a path."""
    inside, outside, log_draw, global_log_draw = Lazily(), dict[str, Tensor](), Lazily(), Lazily()
    scored = set()
    for name, site in _random_sites(trace):
        is_global = data_frame(site) is None
        if is_global:
            outside[name] = term_of(site, num_particles)
        else:
            _add(inside, site, partial(term_of, site, num_particles))
        if site["is_observed"]:
            continue
        refuse_partly_reparameterised(site)
        terms: Mapping[str, Tensor] = outside if is_global else inside
        own = partial(terms.__getitem__, name) if is_plain(site) else partial(draw_term, site, num_particles)
        _add(global_log_draw if is_global else log_draw, site, own)
        if not getattr(site["fn"], "has_rsample", False):
            scored.add(name)
    return inside, outside, log_draw, global_log_draw, frozenset(scored)


def _add(terms: Lazily, site: Site, term: Callable[[], Tensor]) -> None:
    # a transform remembers no draw but its last, so its densities are taken at once
    if transformed(site["fn"]) is not None:
        terms.put(site["name"], term())
    else:
        terms.promise(site["name"], term)


def _random_sites(trace: Trace) -> Iterator[tuple[str, Site]]:
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and not is_deterministic(site):
            yield name, site


def _scale(*traces: Trace) -> float:
    """N/B of the `data` plate, which both programs must subsample alike."""
    frames = [data_frame(site) for trace in traces for _, site in _random_sites(trace)]
    scales = {ratio(frame) for frame in frames if frame is not None}
    if len(scales) > 1:
        raise PairError(
            f"the plate {data_plate_of(*traces)!r} has different subsampling factors N/B in the two "
            f"programs: {sorted(scales)}. Subsample it with the same indices in model and guide"
        )
    return scales.pop() if scales else 1.0


def _indices(*traces: Trace) -> Tensor | None:
    for trace in traces:
        site = trace.nodes.get(data_plate_of(trace))
        if site is not None and site_is_subsample(site) and len(site["value"]) < site["fn"].size:
            indices: Tensor = site["value"]
            return indices
    return None
