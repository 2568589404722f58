"""Sites and plates: what a pair's traces must look like, and the errors where they do not."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta, MaskedDistribution
from pyro.poutine.indep_messenger import CondIndepStackFrame
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


class _OfData(CondIndepStackFrame):
    """The frame of a plate of data that has another name than `data`."""


class _NotOfData(CondIndepStackFrame):
    """The frame of a plate that is called `data` in a program whose data are in another one."""


def marked(stack: Iterable[CondIndepStackFrame], plate: str) -> tuple[CondIndepStackFrame, ...]:
    """The frames of a site in a program whose plate of data is called `plate`: `is_of_data` then knows it."""
    return tuple(
        _OfData(*frame) if frame.name == plate else _NotOfData(*frame) if frame.name == DATA_PLATE else frame
        for frame in stack
    )


def is_of_data(frame: CondIndepStackFrame) -> bool:
    """Whether a frame is that of the plate of data: by its name, or as `marked` has it."""
    return isinstance(frame, _OfData) or (frame.name == DATA_PLATE and not isinstance(frame, _NotOfData))


def data_frame(site: Site) -> Any:
    """The frame of the plate of data around a site, or None for a global site.

    Raises:
        PairError: when the plate is sequential or not at dim=-1.
    """
    for frame in site["cond_indep_stack"]:
        if is_of_data(frame):
            if frame.dim != -1:
                where = "is sequential" if frame.dim is None else f"sits at dim={frame.dim}"
                raise PairError(
                    f"site {site['name']!r}: the plate {frame.name!r} {where}; write "
                    f"`with pyro.plate({frame.name!r}, len(x), dim=-1):`"
                )
            return frame
    return None


def inner_plates(site: Site) -> list[str]:
    """The plates around a site that are neither that of data nor that of particles."""
    frames = site["cond_indep_stack"]
    return [f.name for f in frames if not is_of_data(f) and f.name != PARTICLE_PLATE]


def data_plate_of(*traces: Trace) -> str:
    """What the plate of data is called in these traces."""
    for trace in traces:
        for site in trace.nodes.values():
            for frame in site["cond_indep_stack"] if site["type"] == "sample" else ():
                if is_of_data(frame):
                    return str(frame.name)
    return DATA_PLATE


def without_data_plate(what: str, *traces: Trace) -> str:
    """The message for programs without a site in the plate of data: which plates there are,
    and the way out.
    """
    plates = _plates(traces)
    found = ", ".join(f"{plate!r} around {sorted(set(names))}" for plate, names in plates.items())
    way = f"`with pyro.plate({DATA_PLATE!r}, len(x), dim=-1):`"
    if plates:
        return (
            f"{what} inside a plate called {DATA_PLATE!r}; the plates that there are: {found}. The plate of "
            f"the independent data bears the name {DATA_PLATE!r}, or one that is said: Pair(model, guide, "
            f"plate={next(iter(plates))!r}), in model and guide at dim=-1"
        )
    return f"{what} inside a plate called {DATA_PLATE!r}: put the statements about single data under {way}"


def other_plates(sites: Iterable[str], *traces: Trace) -> str:
    """In which plates sites outside the plate of data stand, in brackets; nothing where they are in none."""
    found = []
    for plate, names in _plates(traces).items():
        inside = [site for site in sites if site in names]
        if inside:
            found.append(f"{inside} in a plate called {plate!r}")
    return f" ({', '.join(found)})" if found else ""


def _plates(traces: Iterable[Trace]) -> dict[str, list[str]]:
    """The sites in each plate that is not of data."""
    plates: dict[str, list[str]] = {}
    for trace in traces:
        for name, site in trace.nodes.items():
            for plate in inner_plates(site) if site["type"] == "sample" else ():
                plates.setdefault(plate, []).append(name)
    return plates


def masked_observations(trace: Trace) -> list[str]:
    """The sites that `pyro.sample(..., obs_mask=)` has split into an observed and an unobserved part."""
    return [
        name.removesuffix("_unobserved")
        for name in trace.nodes
        if name.endswith("_unobserved") and name.removesuffix("_unobserved") + "_observed" in trace.nodes
    ]


def left_to_the_model(model_trace: Trace, guide_trace: Trace) -> set[str]:
    """The missing entries of observations that the guide does not draw.

    The model draws them, so that their density and that of their draw are one, and cancel in a log-weight.
    Finite ones are not among them: those are summed over, exactly.
    """
    parts = {f"{name}_unobserved" for name in masked_observations(model_trace)} - set(guide_trace.nodes)
    return {name for name in parts if not _is_finite(model_trace.nodes[name]["fn"])}


def _is_finite(fn: Any) -> bool:
    return bool(getattr(getattr(fn, "base_dist", fn), "has_enumerate_support", False))


def is_enumerated(site: Site) -> bool:
    """Whether the site asks to be enumerated, which only `TraceEnum_ELBO` does."""
    return bool(site["infer"].get("enumerate"))


def is_summed(site: Any) -> bool:
    """Whether a site of the model's trace has all of its values at once, to be summed over."""
    return site["type"] == "sample" and "_enumerate_dim" in site["infer"]


def is_deterministic(site: Any) -> bool:
    """Whether a statement is a `pyro.deterministic`: a value that is kept, not drawn, of log-density 0.

    So are the sites that a reparameterisation puts in the place of those which it takes apart.
    """
    if site["type"] != "sample":
        return False
    fn = site["fn"]
    certain = site["is_observed"] and isinstance(fn, MaskedDistribution) and fn._mask is False
    return bool(site["infer"].get("_deterministic")) or (certain and isinstance(fn.base_dist, Delta))


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


def auxiliary_names(trace: Trace) -> list[str]:
    """The sites that a guide draws for itself, marked `infer={"is_auxiliary": True}`: no partner has them,
    and their densities belong to those of the latents that it makes of them.
    """
    return [
        name
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and site["infer"].get("is_auxiliary")
    ]


def check_sites_match(model_trace: Trace, guide_trace: Trace) -> None:
    """Raise SitesDifferError unless both programs have the same latent sites, but for those summed over."""
    in_guide, missing = latent_names(guide_trace), left_to_the_model(model_trace, guide_trace)
    in_model = [name for name in latent_names(model_trace) if name not in missing]
    if set(in_model) == set(in_guide):
        return
    only_in_model = [name for name in in_model if name not in in_guide]
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
