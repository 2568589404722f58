"""Summing: finite latent sites that the model has for itself, run with all their values side by side.

The model runs once under Pyro's `EnumMessenger`, with the values of each such site in a dim of its own to the
left of all plates, and `pyro.markov` giving dims back; the sum over them is `SumProduct`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from ppl_vae.core.finite import FiniteEvent, can_be_summed
from ppl_vae.core.sites import (
    PairError,
    Program,
    is_bookkeeping,
    latent_names,
    left_to_the_model,
)


class _Mark(Messenger):
    """Marks those latent sites for `EnumMessenger` that are to be summed over and have few values."""

    def __init__(self, to_sum: Callable[[str], bool]) -> None:
        super().__init__()
        self.to_sum = to_sum

    def _pyro_sample(self, msg: Any) -> None:
        infer = {key: value for key, value in msg["infer"].items() if key not in ("enumerate", "num_samples")}
        latent = not (msg["is_observed"] or msg["done"] or is_bookkeeping(msg) or infer.get("is_auxiliary"))
        if latent and self.to_sum(msg["name"]) and can_be_summed(msg["fn"]):
            infer["enumerate"] = "parallel"
            if not msg["fn"].has_enumerate_support:
                msg["fn"] = FiniteEvent(msg["fn"].base_dist, msg["fn"].reinterpreted_batch_ndims)
        msg["infer"] = infer


def sums_over(model_trace: Trace, guide_trace: Trace) -> list[str]:
    """The latent sites that the model alone has, where each of them can be summed over; [] else."""
    drawn = latent_names(prune_subsample_sites(guide_trace))
    nodes = prune_subsample_sites(model_trace)
    missing = left_to_the_model(model_trace, guide_trace)
    alone = [name for name in latent_names(nodes) if name not in drawn and name not in missing]
    if not set(drawn) <= set(latent_names(nodes)) or not alone:
        return []
    return alone if all(can_be_summed(nodes.nodes[name]["fn"]) for name in alone) else []


def summed_run(
    model: Program, guide_trace: Trace, args: Sequence[Any], kwargs: Mapping[str, Any], first_dim: int
) -> Trace:
    """The trace of the model on the guide's draws, with all values of the sites that it sums over at once.

    Args:
        model: the model, in its plate of particles where there are some.
        guide_trace: the guide's draws.
        args, kwargs: what the model is called with.
        first_dim: the first dim to the left of all plates, -2 for one plate.

    Raises:
        PairError: where the model does not run on all values at once.
    """
    drawn = frozenset(latent_names(guide_trace))
    marked = _Mark(lambda name: name not in drawn)(model)
    program = poutine.replay(EnumMessenger(first_dim)(marked), trace=guide_trace)
    try:
        return poutine.trace(program).get_trace(*args, **kwargs)
    except PairError:
        raise
    except Exception as error:
        raise PairError(_cannot_run(error, model, drawn, args, kwargs)) from error


def run_at_all_values(
    model: Program, names: Collection[str], given: Mapping[str, Tensor], args: Sequence[Any], first_dim: int
) -> Trace:
    """The trace of a model with all values of some finite sites at once, and given values of others.

    Args:
        model: the model, in its plate of particles where there are some.
        names: the sites to take all values of.
        given: values of sites, as `poutine.condition` takes them.
        args, first_dim: as `summed_run`'s.

    Raises:
        PairError: where the model does not run on all values at once.
    """
    marked = _Mark(names.__contains__)(model)
    program = poutine.condition(EnumMessenger(first_dim)(marked), data=dict(given))
    try:
        return poutine.trace(program).get_trace(*args)
    except PairError:
        raise
    except Exception as error:
        raise PairError(_why(error, list(names))) from error


def _cannot_run(
    error: Exception, model: Program, drawn: frozenset[str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    sites = []
    seen = poutine.trace_messenger.TraceMessenger()
    # the sites up to where it fails are what is looked at
    with suppress(Exception), torch.no_grad(), poutine.block(), torch.random.fork_rng(), seen:
        model(*args, **kwargs)
    trace = prune_subsample_sites(seen.get_trace())
    sites = [n for n in latent_names(trace) if n not in drawn and can_be_summed(trace.nodes[n]["fn"])]
    return _why(error, sites)


def _why(error: Exception, sites: list[str]) -> str:
    why = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    return (
        f"the sites {sites} of the model are not in the guide, and are summed over with all their values "
        f"side by side, in dims of their own to the left of all plates; so the model cannot run: {why}. "
        "Index by such a site in a way that broadcasts, means[k] or pyro.ops.indexing.Vindex, concatenate "
        "only what torch.broadcast_tensors has made alike, and write a chain of sites as `for t in "
        "pyro.markov(range(T)):`, which gives the dims of past steps back"
    )
