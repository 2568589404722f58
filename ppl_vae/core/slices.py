"""Slices: which sites look across the slices of an inner plate, found by runs on other draws in some of them.

The plate of pixels, words or time steps says that its slices are independent given what is outside. Sums over
finite sites and score functions rely on it, and a program can break it without a word: a product of matrices
across the plate, a mean over it, a shift along it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from ppl_vae.core.finite import can_be_summed, values_of
from ppl_vae.core.isolation import eval_mode, one_thread, random_numbers, validation
from ppl_vae.core.sites import PARTICLE_PLATE, PairError, Program, Site, data_frame, latent_names
from ppl_vae.core.terms import draw_log_prob

_NOISE = 0.3
_TOLERANCE = 1e-5

Sites = dict[tuple[str, str], Site]


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


def inner_plates(site: Site) -> dict[str, tuple[int, int]]:
    """The (dim, size) of the plates around a site, but those of data, of particles and of one slice."""
    data = data_frame(site)
    return {
        frame.name: (frame.dim, frame.size)
        for frame in site["cond_indep_stack"]
        if frame.dim is not None and frame is not data and frame.name != PARTICLE_PLATE and frame.size > 1
    }


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
                    runs = _Runs({"guide": guide, "model": model}, args, kwargs)
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


class _Runs:
    """Runs of the two programs with their latents held, but for some slices of one site."""

    def __init__(
        self, roles: Mapping[str, Callable[..., Any]], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self.roles, self.args, self.kwargs = roles, args, kwargs
        self.values: dict[str, Tensor] = {}
        self.sites: Sites = {}
        # the guide's draws first, so that the model is run on them
        self.sites = self._run({})
        self.latents = {name: site for (_, name), site in reversed(self.sites.items()) if name in self.values}
        self.base = {key: _density(site) for key, site in self._run(self.values).items()}

    def _run(self, values: Mapping[str, Tensor]) -> Sites:
        found: Sites = {}
        for role, program in self.roles.items():
            torch.manual_seed(0)
            trace = poutine.trace(_Held({**self.values, **values})(program)).get_trace(
                *self.args, **self.kwargs
            )
            trace = prune_subsample_sites(trace)
            for name in latent_names(trace):
                self.values.setdefault(name, trace.nodes[name]["value"])
            found |= {(role, n): site for n, site in trace.nodes.items() if site["type"] == "sample"}
        return found

    def trials(self) -> Iterator[tuple[str, str, Tensor, Tensor]]:
        """(site, plate, which of its slices are held, the site's values with the others changed)."""
        for name, site in self.latents.items():
            for plate, (dim, size) in inner_plates(site).items():
                number, some = torch.arange(size), torch.rand(size) < 0.5
                for trial, held in enumerate((number == 0, number == size - 1, some, number < 0)):
                    torch.manual_seed(trial + 1)  # other draws than the runs', which have the same seed each
                    other = _other_values(site, self.values[name])
                    shape = [size if d == dim else 1 for d in range(-len(site["fn"].batch_shape), 0)]
                    mask = held.to(other.device).view(*shape, *[1] * site["fn"].event_dim)
                    yield name, plate, held, torch.where(mask, self.values[name], other)

    def moved(
        self, site: str, plate: str, held: Tensor, values: Tensor
    ) -> Iterator[tuple[tuple[str, str], bool]]:
        """The terms that changed where they should not have, each with whether it stands in the plate."""
        for key, term in self._run({site: values}).items():
            if key not in self.base:
                continue
            plates = inner_plates(term)
            now, before = _density(term), self.base[key]
            if plate in plates:
                dim = plates[plate][0]
                now, before = (each.movedim(dim, 0)[held.to(each.device)] for each in (now, before))
            if now.shape != before.shape or not torch.allclose(
                now, before, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True
            ):
                yield key, plate in plates


class _Held(Messenger):
    """Latent sites at given values."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def _density(site: Site) -> Tensor:
    density = torch.as_tensor(draw_log_prob(site))
    return density.expand(torch.broadcast_shapes(density.shape, site["fn"].batch_shape))


def _other_values(site: Site, value: Tensor) -> Tensor:
    """Other values of a site in each entry: of the finite ones another, else a new draw."""
    fn = site["fn"]
    if not can_be_summed(fn):
        drawn: Tensor = fn.sample()
        return drawn
    values = values_of(fn)
    assert values is not None
    event_dim = fn.event_dim
    table = values.reshape(len(values), *fn.event_shape)
    same = table == value.unsqueeze(-1 - event_dim)
    number = (same.flatten(-event_dim).all(-1) if event_dim else same).long().argmax(-1)
    shift = torch.randint(1, max(len(values), 2), number.shape, device=number.device)
    return table[(number + shift) % len(values)]
