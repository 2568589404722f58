"""Slices: which sites look across the slices of an inner plate, found by runs on other draws in some of them.

The plate of pixels, words or time steps says that its slices are independent given what is outside. Sums over
finite sites and score functions rely on it, and a program can break it without a word: a product of matrices
across the plate, a mean over it, a shift along it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.core.finite import values_of
from ppl_vae.core.isolation import eval_mode, one_thread, random_numbers, validation
from ppl_vae.core.plates import inner_plates
from ppl_vae.core.sites import PairError, Program, Site
from ppl_vae.core.slice_trials import SliceTrials

_NOISE = 0.3


@dataclass(frozen=True)
class Reach:
    """What the latent sites in inner plates move beside their own slices.

    Attributes:
        across: (site, role, term, plate): the density of `term`, a site of the program `role`, in a slice of
            the plate changes with the site's draws in other slices.
        outside: (site, role, term): that of a term outside the site's plates changes with its draws.
    """

    across: frozenset[tuple[str, str, str, str]]
    outside: frozenset[tuple[str, str, str]]


_OfGuides = weakref.WeakKeyDictionary[Any, Reach]
_known: weakref.WeakKeyDictionary[Any, _OfGuides] = weakref.WeakKeyDictionary()


@one_thread
def reach_of(model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Reach:
    """The reach of a pair's latent sites in inner plates, found by some runs and then remembered.

    The runs are in eval mode, once with the parameters as they are and once with noise on them, since a net
    that starts at zero hides what it looks at.
    """
    known = _known.setdefault(model, weakref.WeakKeyDictionary())
    if guide not in known:
        # also in the first run of what is recorded or captured: the look at values is not part of that
        with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
            known[guide] = _found(model, guide, args, kwargs)
    return known[guide]


def refuse_across(
    sites: Mapping[str, Site],
    model: Program,
    guide: Program,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    carriers: Mapping[str, str] | None = None,
) -> None:
    """Raise PairError where something looks across the slices of finite sites that are summed over in each
    slice of an inner plate by itself.

    Args:
        sites: the finite sites.
        model, guide, args, kwargs: as of `reach_of`.
        carriers: other sites whose draws hang on those of a finite one, by name.
    """
    inside = {name: plates for name, site in sites.items() if (plates := inner_plates(site))}
    if not inside:
        return
    carried = {name: name for name in inside} | dict(carriers or {})
    reach = reach_of(model, guide, args, kwargs)
    for source, role, term, plate in sorted(reach.across):
        site = carried.get(source, "")
        if site and plate in inside[site]:
            raise PairError(
                f"site {site!r} is summed over in each slice of the plate {plate!r}, and {term!r} of the "
                f"{role} looks from a slice at {source!r} in others (a product of matrices, a mean, a shift "
                f"along the plate): {_combinations(sites[site], plate)}. Take it out of the plate, or {_DRAW}"
            )
    for source, role, term in sorted(reach.outside):
        if site := carried.get(source, ""):
            plate = next(iter(inside[site]))
            raise PairError(
                f"site {site!r} is summed over in each slice of the plate {plate!r}, and {term!r} of the "
                f"{role}, which stands outside, looks at {source!r} in all of them: "
                f"{_combinations(sites[site], plate)}. Put it into the plate, or {_DRAW}"
            )


_DRAW = (
    "let the guide draw the site, under estimators.VIMCO, estimators.NVIL or estimators.ScoreFunction, "
    "without a mark for enumeration"
)


def _combinations(site: Site, plate: str) -> str:
    values = values_of(site["fn"])
    assert values is not None
    size = inner_plates(site)[plate][1]
    count = len(values) ** size
    number = f"{count:,}" if size < 40 else f"{len(values)} to the power of {size}"
    return f"the sum would have {number} combinations of values for each datum"


def _found(model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Reach:
    modules = [*_modules_of(model), *_modules_of(guide)]
    device = next((arg.device for arg in args if isinstance(arg, Tensor)), torch.device("cpu"))
    across, outside = set[tuple[str, str, str, str]](), set[tuple[str, str, str]]()
    with torch.no_grad(), poutine.block(), eval_mode(*modules), random_numbers(0, device), validation(False):
        for noisy in (False, True):
            try:
                with _noise(modules) if noisy else nullcontext():
                    runs = SliceTrials({"guide": guide, "model": model}, args, kwargs)
                    for site, plate, held, values in runs.trials():
                        more = list(runs.moved(site, plate, held, values))
                        across |= {(site, *term, plate) for term, inside in more if inside}
                        outside |= {(site, *term) for term, inside in more if not inside}
            except Exception:
                if not noisy:
                    raise  # noise may take a parameter to where no program runs
    return Reach(frozenset(across), frozenset(outside))


def _modules_of(program: Any) -> list[nn.Module]:
    """The modules that a program is or calls: itself, or those that a function around them has kept."""
    if isinstance(program, nn.Module):
        return [program]
    kept = [cell.cell_contents for cell in getattr(program, "__closure__", None) or ()]
    kept += [getattr(program, "__self__", None), getattr(program, "func", None)]
    return [each for each in kept if isinstance(each, nn.Module)]


@contextmanager
def _noise(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Noise on the modules' parameters for a while; what is known of the tensors, their gradient and their
    place in a graph, is not touched.
    """
    parameters = {id(p): p for module in modules for p in module.parameters() if p.is_floating_point()}
    before = {key: parameter.data for key, parameter in parameters.items()}
    try:
        for parameter in parameters.values():
            parameter.data = parameter.data + _NOISE * torch.randn_like(parameter.data)
        yield
    finally:
        for key, parameter in parameters.items():
            parameter.data = before[key]
