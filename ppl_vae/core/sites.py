"""Sites and plates: what a pair's traces must look like, and the errors where they do not."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from pyro.poutine.util import prune_subsample_sites, site_is_factor, site_is_subsample
from torch import Tensor, nn

from ppl_vae.core.isolation import eval_mode, one_thread, random_numbers

DATA_PLATE = "data"
PARTICLE_PLATE = "particles"

Program = Callable[..., Any]
Site = dict[str, Any]


class PairError(ValueError):
    """A model/guide pair that breaks the contract; the message names the site and the fix."""


class SitesDifferError(PairError):
    """The latent sites of the two programs are not the same."""


def data_frame(site: Site) -> Any:
    """The frame of the `data` plate around a site, or None for a global site.

    Raises:
        PairError: when the plate is sequential or not at dim=-1.
    """
    for frame in site["cond_indep_stack"]:
        if frame.name == DATA_PLATE:
            if frame.dim != -1:
                where = "is sequential" if frame.dim is None else f"sits at dim={frame.dim}"
                raise PairError(
                    f"site {site['name']!r}: the plate {DATA_PLATE!r} {where}; write "
                    f"`with pyro.plate({DATA_PLATE!r}, len(x), dim=-1):`"
                )
            return frame
    return None


def without_data_plate(what: str, *traces: Trace) -> str:
    """The message for programs without a site in the plate of data: which plates there are,
    and the way out.
    """
    plates = _plates(traces)
    plates.pop(DATA_PLATE, None)
    found = ", ".join(f"{plate!r} around {sorted(set(names))}" for plate, names in plates.items())
    way = f"`with pyro.plate({DATA_PLATE!r}, len(x), dim=-1):`"
    if plates:
        return (
            f"{what} inside a plate called {DATA_PLATE!r}; the plates that there are: {found}. The plate of "
            f"the independent data must bear the name {DATA_PLATE!r}, in model and guide: rename it, {way}"
        )
    return f"{what} inside a plate called {DATA_PLATE!r}: put the statements about single data under {way}"


def other_plates(sites: Iterable[str], *traces: Trace) -> str:
    """In which plates sites outside the plate of data stand, in brackets; nothing where they are in none."""
    found = []
    for plate, names in _plates(traces).items():
        inside = [site for site in sites if site in names]
        if inside and plate != DATA_PLATE:
            found.append(f"{inside} in a plate called {plate!r}")
    return f" ({', '.join(found)})" if found else ""


def _plates(traces: Iterable[Trace]) -> dict[str, list[str]]:
    """The sites in each plate."""
    plates: dict[str, list[str]] = {}
    for trace in traces:
        for name, site in trace.nodes.items():
            if site["type"] == "sample":
                for frame in site["cond_indep_stack"]:
                    plates.setdefault(frame.name, []).append(name)
    return plates


def masked_observations(trace: Trace) -> list[str]:
    """The sites that `pyro.sample(..., obs_mask=)` has split into an observed and an unobserved part."""
    ends = ("_observed", "_unobserved")
    return [
        name.removesuffix(ends[1])
        for name in latent_names(trace)
        if name.endswith(ends[1]) and name.removesuffix(ends[1]) + ends[0] in trace.nodes
    ]


def is_enumerated(site: Site) -> bool:
    """Whether the site asks to be enumerated, which only `TraceEnum_ELBO` does."""
    return bool(site["infer"].get("enumerate"))


def is_summed(site: Any) -> bool:
    """Whether a site of the model's trace has all of its values at once, to be summed over."""
    return site["type"] == "sample" and "_enumerate_dim" in site["infer"]


def is_deterministic(site: Any) -> bool:
    """Whether a statement is a `pyro.deterministic`: a value that is kept, not drawn, of log-density 0."""
    return site["type"] == "sample" and bool(site["infer"].get("_deterministic"))


def is_bookkeeping(site: Any) -> bool:
    """Whether a sample statement is a plate's subsample, a `pyro.factor` or a `pyro.deterministic`."""
    return site_is_subsample(site) or site_is_factor(site) or is_deterministic(site)


class Uncondition(UnconditionMessenger):
    """`poutine.uncondition`, except for sites to hold and for statements that are not about data."""

    def __init__(self, given: Sequence[str] = ()) -> None:
        super().__init__()
        if isinstance(given, str):
            raise ValueError(f"given must be a sequence of sites, got a string: write given=[{given!r}]")
        self.given = frozenset(given)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.given and not is_bookkeeping(msg):
            super()._pyro_sample(msg)


def latent_names(trace: Trace) -> list[str]:
    """The names of a trace's unobserved sample sites that a partner must have too; none summed over."""
    return [
        name
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and not site["is_observed"]
        and not site["infer"].get("is_auxiliary")
        and not is_summed(site)
    ]


def check_sites_match(model_trace: Trace, guide_trace: Trace) -> None:
    """Raise SitesDifferError unless both programs have the same latent sites, but for those summed over."""
    in_model, in_guide = latent_names(model_trace), latent_names(guide_trace)
    if set(in_model) == set(in_guide):
        return
    only_in_model = [name for name in in_model if name not in in_guide]
    masked = [name for name in masked_observations(model_trace) if f"{name}_unobserved" in only_in_model]
    if masked:
        raise SitesDifferError(_about_obs_mask(masked[0]))
    message = (
        "the latent sites of model and guide differ.\n"
        f"  only in the model: {sorted(set(in_model) - set(in_guide))}\n"
        f"  only in the guide: {sorted(set(in_guide) - set(in_model))}\n"
        f"  all in the model: {in_model}; all in the guide: {in_guide}\n"
        f"{_way_out(only_in_model, model_trace, guide_trace)}"
    )
    observed = [n for n in in_guide if n in model_trace.nodes and n not in in_model]
    if observed:
        message += f" (observed in the model, so not for the guide to draw: {observed})"
    raise SitesDifferError(message)


def _way_out(only_in_model: list[str], model_trace: Trace, guide_trace: Trace) -> str:
    if not latent_names(model_trace) and not observed_names(model_trace):
        return "The model makes no pyro.sample statement"
    seen = {role: observed_names(trace) for role, trace in (("model", model_trace), ("guide", guide_trace))}
    if seen["guide"] and not seen["model"]:
        return (
            f"The guide observes {seen['guide']} and the model nothing: are they swapped? Pair(model, guide)"
        )
    if set(latent_names(guide_trace)) - set(latent_names(model_trace)):
        return "Give a latent site the same name in both programs"
    standing = "A latent site stands in both programs under one name"
    if not latent_names(guide_trace):
        standing = f"The guide makes no pyro.sample statement, and must draw {only_in_model}"
        if seen["model"]:
            return standing
    last = only_in_model[-1]
    return (
        f"{standing}. If {last!r} is data, it is not observed: give obs={last} to it, "
        f"pyro.sample({last!r}, ..., obs={last})"
    )


def observed_names(trace: Trace) -> list[str]:
    """The sites that observe data; a `pyro.factor` and a `pyro.deterministic` do not."""
    return [
        name
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and site["is_observed"] and not is_bookkeeping(site)
    ]


def _about_obs_mask(site: str) -> str:
    return (
        f"site {site!r} of the model has obs_mask=, for which Pyro draws the entries that are not observed "
        f"as a latent site of its own, '{site}_unobserved', and the guide has none of that name. Leave the "
        f"missing entries out of the likelihood, `with poutine.mask(mask=observed): pyro.sample({site!r}, "
        f"..., obs={site})`, without obs_mask; or draw '{site}_unobserved' in the guide too"
    )


_nesting: weakref.WeakKeyDictionary[Any, weakref.WeakKeyDictionary[Any, int]] = weakref.WeakKeyDictionary()


@one_thread
def plate_nesting(model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """How many dims the plates of a pair take, found by running it once and then remembered."""
    known = _nesting.setdefault(model, weakref.WeakKeyDictionary())
    if guide not in known:
        known[guide] = _find_nesting(model, guide, args, kwargs)
    return known[guide]


def _find_nesting(model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    # the trial must leave no mark: not on the random numbers, the handlers, or BatchNorm's averages
    programs = [program for program in (model, guide) if isinstance(program, nn.Module)]
    device = next((arg.device for arg in args if isinstance(arg, Tensor)), torch.device("cpu"))
    with torch.no_grad(), poutine.block(), eval_mode(*programs), random_numbers(0, device):
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
    dims = [
        frame.dim
        for trace in (prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace))
        for site in trace.nodes.values()
        if site["type"] == "sample"
        for frame in site["cond_indep_stack"]
        if frame.dim is not None
    ]
    return -min(dims, default=0)


def before(trace: Trace, site: str) -> set[str]:
    """The latent sites that a program draws before one of them."""
    names = latent_names(trace)
    return set(names[: names.index(site)]) if site in names else set()
