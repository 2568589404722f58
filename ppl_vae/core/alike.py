"""Latents of one event shape and one kind in both programs, so that their densities are of the same thing."""

from __future__ import annotations

from typing import Any

from pyro.poutine.trace_struct import Trace

from ppl_vae.core.constraints import in_words, innermost_name, kind_of_density
from ppl_vae.core.sites import PairError, latent_names


def check_latents_alike(model_trace: Trace, guide_trace: Trace) -> None:
    """Raise PairError unless each latent has one event shape, and a density of one kind, in both programs.

    Bits under a normal prior have a log-weight, and so have three numbers under a prior of one: a ratio of
    densities of different things, which bounds nothing.

    Args:
        model_trace: of the model, alone or replayed on the guide's draws.
        guide_trace: of the guide.
    """
    for name in latent_names(guide_trace):
        if name not in model_trace.nodes:
            continue
        model, guide = model_trace.nodes[name]["fn"], guide_trace.nodes[name]["fn"]
        if model.event_shape != guide.event_shape:
            raise PairError(
                f"site {name!r}: its event shape is {list(model.event_shape)} in the model but "
                f"{list(guide.event_shape)} in the guide. {_same_event(model, guide)}"
            )
        if _same_family(model, guide):
            continue
        kinds = kind_of_density(model), kind_of_density(guide)
        if None not in kinds and kinds[0] != kinds[1]:
            raise PairError(
                f"site {name!r}: the model's {innermost_name(model)} is {kinds[0]} and the guide's "
                f"{innermost_name(guide)} is {kinds[1]}, so their densities cannot be held against each "
                f"other. Give the guide a distribution whose values are {in_words(model.support)}"
            )


def _same_family(model: Any, guide: Any) -> bool:
    """What goes for nearly all pairs, at once."""
    if type(model) is not type(guide):
        return False
    inner = [getattr(fn, "base_dist", None) for fn in (model, guide)]
    return all(type(inner[0]) is type(each) and not hasattr(each, "base_dist") for each in inner)


def _same_event(model: Any, guide: Any) -> str:
    if len(model.event_shape) == len(guide.event_shape):
        return "Give both the same number of latent dimensions"
    return "Give both the same size and the same .to_event(n)"
