"""The first meeting of a pair and a batch: what the programs make there, and which plate holds the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.core import drawing
from ppl_vae.core.faults import short
from ppl_vae.core.isolation import one_thread, questioning, validation
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.program import ProgramModule, Statements
from ppl_vae.core.replaying import last_alone, replayed, values_of
from ppl_vae.core.sites import DATA_PLATE, PairError, auxiliary_names, is_bookkeeping, is_of_data
from ppl_vae.core.subsampling import seen_by, whole_plate

_FEW = 8  # data, where more would show nothing else
_TOLERANCE = 1e-2  # a net that mixes particles does more; in float32 convolutions of another size do less
_SEVERAL = 3  # particles, to see whether they mind each other


@one_thread
def meet(pair: Pair, batch: Sequence[Tensor]) -> None:
    """Run a pair's programs once, where they have not run before, so that the pair is whole.

    What they make by `pyro.param`, and what an autoguide makes at its first run, is the pair's from here on;
    a plate of data with another name than "data" is found where there is one candidate; and whether they run
    with several particles at once, and on another number of data. A pair that cannot run is left as it
    is: whoever runs it next says why.

    Args:
        batch: as large as the first that the pair will see.

    Raises:
        PairError: for several plates that may hold the data; names them.
    """
    if pair.met or not batch or not all(tensor.dim() for tensor in batch):
        return
    few = batch if _makes(pair) else _rows(batch, _FEW)
    found = _run(pair, few) or _run(pair, few := batch)
    sound = found is not None
    found = found or _run(pair, batch, checked=False)  # zeros for data may lie outside of a support
    if found is None:
        return
    pair.met = True
    traces, statements = found
    plate = _data_plate(pair, traces, few)
    pair.shares = any(_is_global(site, plate) for site in traces[1].nodes.values())
    owning = bool(statements[0]), bool(statements[1])
    if plate is not None or any(owning):
        pair.own(pair.plate if plate is None else plate, None, owning)
        _run(pair, few := batch, sound)  # now they make them for the pair
    if not sound:
        return
    if pair.vectorize is None and (reason := _why_one_by_one(pair, few)) is not None:
        pair.own(pair.plate, reason, (False, False))
    if len(few[0]) == len(batch[0]) > 1 and not seen_by(pair, batch).subsamples:
        fewer = _rows(batch, len(batch[0]) - 1)
        pair.fixed_rows = len(batch[0]) if _goes_with(pair, batch) and not _goes_with(pair, fewer) else None


def rows_to_meet(pair: Pair) -> int | None:
    """How many data a pair must meet; None for as many as the first batch that it will see.

    A program that may make parameters at its first run may make one for each datum.
    """
    return None if _makes(pair) else _FEW + 1


def _makes(pair: Pair) -> bool:
    """Whether the programs may make something at their first run, as large perhaps as the batch."""
    return isinstance(pair.model, ProgramModule) or isinstance(pair.guide, ProgramModule)


def _rows(batch: Sequence[Tensor], count: int) -> tuple[Tensor, ...]:
    return tuple(tensor[:count] for tensor in batch)


def _run(
    pair: Pair, batch: Sequence[Tensor], checked: bool = True
) -> tuple[list[Trace], list[list[str]]] | None:
    """The traces of model and guide, and the parameters that they make and that no one owns."""
    looks = [Statements(), Statements()]
    with questioning(pair, 0, pair.device), poutine.block(), validation(checked):
        try:
            with whole_plate(len(batch[0])):
                with looks[1]:
                    guide = poutine.trace(pair.guide).get_trace(*batch)
                with looks[0]:
                    model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*batch)
        except Exception:
            return None
    owned = [isinstance(program, ProgramModule) for program in (pair.model, pair.guide)]
    return [model, guide], [[] if own else look.names for own, look in zip(owned, looks)]


def _is_global(site: Any, plate: str | None) -> bool:
    """Whether a site of the guide is a latent outside the plate of data."""
    if site["type"] != "sample" or site["is_observed"] or is_bookkeeping(site):
        return False
    return not any(is_of_data(frame) or frame.name == plate for frame in site["cond_indep_stack"])


def _goes_with(pair: Pair, batch: Sequence[Tensor]) -> bool:
    """Whether the programs run on a batch, and their densities can be had."""
    with questioning(pair, 0, pair.device), poutine.block(), validation(True), suppress(Exception):
        with whole_plate(len(batch[0])):
            _densities(drawing.draw(pair.model, pair.guide, tuple(batch)))
        return True
    return False


def _why_one_by_one(pair: Pair, batch: Sequence[Tensor]) -> str | None:
    """Why the programs cannot run with several particles at once; None where they can, or nobody can tell."""
    with questioning(pair, 0, pair.device), poutine.block(), whole_plate(len(batch[0])):
        try:
            values = values_of(drawing.draw(pair.model, pair.guide, tuple(batch)))
            alone, again = (_densities(replayed(pair, batch, values)) for _ in range(2))
        except Exception:
            return None  # it does not run at all
        comparable = _alike(alone, again)
        try:
            together = drawing.draw(pair.model, pair.guide, tuple(batch), num_particles=_SEVERAL)
            beside = {name: term[-1:] for name, term in _densities(together).items()}
            alone = _densities(last_alone(pair, batch, together))
        except Exception as error:
            return short(error.__cause__ if isinstance(error.__cause__, Exception) else error)
    if not comparable:
        return None  # its densities are others in each run, so that nothing can be compared
    return None if _alike(alone, beside) else "a particle's density is another one beside others"


def _densities(particles: Particles) -> dict[tuple[str, str], Tensor]:
    """The terms of the log-weights by their kind and site, those that the guide's draws determine."""
    kinds = ["log_likelihood", "log_prior", "global_log_prior"]
    if not auxiliary_names(particles.guide_trace):
        kinds += ["log_guide", "global_log_guide"]
    return {(kind, site): term for kind in kinds for site, term in particles.densities(kind).items()}


def _alike(first: Mapping[Any, Tensor], second: Mapping[Any, Tensor]) -> bool:
    return set(first) == set(second) and all(
        term.shape == second[name].shape
        and torch.allclose(term, second[name], rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
        for name, term in first.items()
    )


def _data_plate(pair: Pair, traces: Sequence[Trace], batch: Sequence[Tensor]) -> str | None:
    """The name of the plate of data where the programs have none that is known to be it."""
    if pair.plate is not None or any(is_of_data(frame) for frame in _frames(traces)):
        return None
    candidates = _holding(traces, len(batch[0]))
    if len(candidates) > 1 and len(batch[0]) > 2:  # that of the data holds fewer of fewer
        fewer = _rows(batch, len(batch[0]) - 1)
        again = _run(pair, fewer)
        candidates = [n for n in candidates if again is None or n in _holding(again[0], len(fewer[0]))]
    if len(candidates) > 1:
        raise PairError(
            f"no plate is called {DATA_PLATE!r}, and {candidates} hold as many as the batch has, "
            f"{len(batch[0])}: say which is that of the independent data, Pair(model, guide, "
            f"plate={candidates[0]!r})"
        )
    return candidates[0] if candidates else None


def _holding(traces: Sequence[Trace], rows: int) -> list[str]:
    """The plates at dim=-1 that hold so many."""
    held = [f.name for f in _frames(traces) if f.dim == -1 and rows in (f.size, f.full_size)]
    return list(dict.fromkeys(held))


def _frames(traces: Sequence[Trace]) -> list[Any]:
    sites = [s for trace in traces for s in trace.nodes.values() if s["type"] == "sample"]
    return [frame for site in sites for frame in site["cond_indep_stack"]]
