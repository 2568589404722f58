"""The effect handlers behind the queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyro
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.core.drawing import at_draws, particle_dim, with_summed_draws
from ppl_vae.core.faults import traced
from ppl_vae.core.one_by_one import SameRows, Several, merged, runs_one_by_one
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PARTICLE_PLATE, Program, Site, auxiliary_names, is_bookkeeping
from ppl_vae.core.subsampling import whole_plate

_MEAN_DRAWS = 100  # for the few distributions without a mean (flows): a tenth of a standard deviation


class Centre(Messenger):
    """Put every drawn site at its mean; a discrete one, which may not exist there, at its mode."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["done"] or site_is_subsample(msg):
            return
        fn = msg["fn"]
        value = None if is_discrete(fn) else mean_of(msg)
        if value is None:
            try:
                value = fn.mode.nan_to_num()  # torch: nan for a Bernoulli at a half
            except NotImplementedError:
                draws = fn.sample((_MEAN_DRAWS,))
                value = draws.mode(0).values if is_discrete(fn) else draws.mean(0)
        msg["value"], msg["done"] = value, True


def run(program: Program, batch: Sequence[Tensor], handler: Messenger | None = None) -> Trace:
    """A program's trace on every row of a batch, one that it would take some of too, under a handler.

    Raises:
        PairError: naming the fault and the fix, where it fails or cannot take every row.
    """
    with whole_plate(len(batch[0])) as seen:
        trace = traced(program if handler is None else handler(program), batch, "program")
    seen.require_whole()
    return trace


def repeated(program: Program, count: int, plate_dim: int | None) -> Program:
    """A program that runs `count` times at once, in a plate of its own at `plate_dim`; as it is for None."""
    return program if plate_dim is None else pyro.plate(PARTICLE_PLATE, count, dim=plate_dim)(program)


def several(
    program: Program,
    batch: Sequence[Tensor],
    count: int,
    plate_dim: int | None,
    *,
    replay: Trace | None = None,
    data: Mapping[str, Tensor] | None = None,
) -> Trace:
    """The trace of a program that runs `count` times: at once in a plate at `plate_dim`, or one by one where
    it must; once for None.

    Args:
        replay: a trace whose draws it takes, of as many runs.
        data: values of sites, (count or 1, *plates, *event).
    """
    if plate_dim is None or not runs_one_by_one(program):
        return run(_given(repeated(program, count, plate_dim), replay, data), batch)
    traces = []
    with SameRows():
        for number in range(count):
            drawn = replay.singles[number] if isinstance(replay, Several) else replay
            chosen = {name: value[number % len(value)] for name, value in (data or {}).items()}
            traces.append(run(_given(program, drawn, chosen), batch))
    return merged(traces, plate_dim)


def with_sums(
    pair: Pair, trace: Trace, batch: tuple[Tensor, ...], count: int, plate_dim: int | None
) -> Trace:
    """`count` runs of the guide, and draws of the sites that the model sums over, from p(k | x, z)."""
    if isinstance(trace, Several):
        singles = [with_sums(pair, each, batch, 1, None) for each in trace.singles]
        return trace if plate_dim is None else merged(singles, plate_dim)
    with whole_plate(len(batch[0])):
        particles = at_draws(pair.model, pair.guide, trace, batch, num_particles=count)
    return with_summed_draws(trace, particles)


def _given(program: Program, replay: Trace | None, data: Mapping[str, Tensor] | None) -> Program:
    if replay is not None:
        program = poutine.replay(program, trace=replay)
    return poutine.condition(program, data=dict(data)) if data else program


def find_plate_dim(pair: Pair, batch: tuple[Tensor, ...]) -> int:
    """The first dim, counted from the right, to the left of all plates of both programs."""
    return particle_dim(pair.model, pair.guide, batch, {})


def centre(pair: Pair, batch: tuple[Tensor, ...]) -> dict[str, Site]:
    """The guide's latent sites by name, each at its mean, a discrete one at its mode."""
    return latent_sites(run(pair.guide, batch, Centre()))


def sample_sites(trace: Trace) -> dict[str, Site]:
    """A trace's sites by name, but those that Pyro itself makes, for plates and subsampling."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not is_bookkeeping(site)
    }


def latent_sites(trace: Trace, given: Sequence[str] = ()) -> dict[str, Site]:
    """The sites that are not data: not observed, or chosen by `condition`; none of `given`, and none that a
    guide draws for itself.
    """
    own = auxiliary_names(trace)
    return {
        name: site
        for name, site in sample_sites(trace).items()
        if name not in (*given, *own) and not site["is_observed"] and not site["infer"].get("was_observed")
    }


def mean_of(site: Site) -> Tensor | None:
    """The mean of a site's distribution, laid out as its value; None where it has none or does not say."""
    try:
        mean = site["fn"].mean
    except NotImplementedError:
        return None
    return None if bool(mean.isnan().any()) else mean


def centre_of(site: Site) -> Tensor:
    """The mean of a site's distribution; where it has none its mode, and its value where it has neither, or
    is held.
    """
    mean, value = mean_of(site), site["value"]
    if mean is None and not site["is_observed"]:
        with suppress(NotImplementedError):
            mean = site["fn"].mode
    return value if mean is None else mean


def is_discrete(fn: Any) -> bool:
    """Whether a distribution's values are discrete; False where it does not say."""
    try:
        return bool(fn.support.is_discrete)
    except NotImplementedError:
        return False
