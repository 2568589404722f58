"""Sites: what matters to estimators in the sites of a pair, read off one run of its programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor
from torch.distributions import Bernoulli, OneHotCategorical

from ppl_vae.core.density import has_density
from ppl_vae.core.finite import can_be_summed
from ppl_vae.core.isolation import questioning
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import (
    Site,
    check_sites_match,
    data_frame,
    is_deterministic,
    is_enumerated,
)
from ppl_vae.core.summing import sums_over
from ppl_vae.core.terms import own_masks


@dataclass(frozen=True)
class Sites:
    """What matters to estimators in a pair's sites: the names of those that have a property.

    Attributes:
        discrete: of the guide, without a pathwise gradient.
        not_bernoulli: those of `discrete` that are no Bernoulli sites.
        dependent: Bernoulli sites of the guide whose odds hang on its other draws.
        not_relaxable: those of `discrete` that are neither Bernoulli nor one-hot vectors.
        not_listed: those of `discrete` whose values cannot be listed, or are too many.
        outside_data: outside the `data` plate, in either program.
        without_plate: observed or latent, in no plate at all.
        enumerated: marked for enumeration, in the guide.
        scaled: latent, with a user's `poutine.scale` in either program, and that scale in words.
        scaled_in_one: those whose scale or mask is not the same in the two programs.
        subsampling: N/B of the `data` plate.
        only_in_model: finite latent sites that the guide does not have, so that they are summed over.
        unmarked: those of them that Pyro would draw, since they are not marked for enumeration in parallel.
        only_in_guide: `pyro.deterministic` sites of the guide that the model does not have.
        without_density: latent, without a density that can be computed, in either program.
        out_of_order: latent sites that the guide draws in another order than the model does.
    """

    discrete: tuple[str, ...]
    not_bernoulli: tuple[str, ...]
    outside_data: tuple[str, ...]
    without_plate: tuple[str, ...]
    enumerated: tuple[str, ...]
    scaled: dict[str, str]
    scaled_in_one: tuple[str, ...]
    subsampling: float
    out_of_order: tuple[str, ...] = ()
    only_in_model: tuple[str, ...] = ()
    unmarked: tuple[str, ...] = ()
    only_in_guide: tuple[str, ...] = ()
    not_relaxable: tuple[str, ...] = ()
    dependent: tuple[str, ...] = ()
    without_density: tuple[str, ...] = ()
    not_listed: tuple[str, ...] = ()


def read_sites(pair: Pair, batch: Tensor | Sequence[Tensor]) -> Sites:
    """Run both programs once and look at their sites.

    Raises:
        PairError: when the latent sites differ, other than by finite ones of the model's.
    """
    tensors = (batch,) if isinstance(batch, Tensor) else tuple(batch)
    with questioning(pair, 0, pair.device):
        guide = poutine.trace(pair.guide).get_trace(*tensors)
        model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*tensors)
    with questioning(pair, 1, pair.device):
        again = poutine.trace(pair.guide).get_trace(*tensors)
    model, guide = prune_subsample_sites(model), prune_subsample_sites(guide)
    only_in_model = sums_over(model, guide)
    if not only_in_model:
        check_sites_match(model, guide)
    in_model, in_guide = dict(_samples(model)), dict(_samples(guide))
    drawn = {name: site for name, site in in_guide.items() if not site["is_observed"]}
    latent = {name: site for name, site in in_model.items() if not site["is_observed"]}
    every = [*in_guide.items(), *in_model.items()]
    discrete = [name for name, site in drawn.items() if not getattr(site["fn"], "has_rsample", False)]
    frames = [frame for _, site in every if (frame := data_frame(site)) is not None]
    scaled = {
        name: f"{_user_scale(site):g}"
        for name, site in (*drawn.items(), *latent.items())
        if _user_scale(site) != 1.0
    }
    shared = [name for name in latent if name in drawn]
    return Sites(
        discrete=tuple(discrete),
        not_bernoulli=tuple(name for name in discrete if not isinstance(_base(drawn[name]), Bernoulli)),
        outside_data=_unique(name for name, site in every if data_frame(site) is None),
        without_plate=_unique(name for name, site in every if not site["cond_indep_stack"]),
        enumerated=_unique(n for n, site in every if is_enumerated(site) and n not in only_in_model),
        scaled=scaled,
        scaled_in_one=tuple(name for name in shared if not _treated_alike(drawn[name], latent[name])),
        subsampling=max([float(frame.full_size or frame.size) / frame.size for frame in frames], default=1.0),
        out_of_order=() if shared == [name for name in drawn if name in latent] else tuple(shared),
        only_in_model=tuple(only_in_model),
        unmarked=tuple(n for n in only_in_model if in_model[n]["infer"].get("enumerate") != "parallel"),
        dependent=tuple(name for name in discrete if _other_odds(drawn[name], again.nodes.get(name))),
        not_relaxable=tuple(
            name for name in discrete if not isinstance(_base(drawn[name]), Bernoulli | OneHotCategorical)
        ),
        not_listed=tuple(name for name in discrete if not can_be_summed(drawn[name]["fn"])),
        without_density=_unique(n for n, site in every if not has_density(site["fn"])),
        only_in_guide=tuple(n for n in guide if is_deterministic(guide.nodes[n]) and n not in model),
    )


def _samples(trace: Trace) -> Iterator[tuple[str, Site]]:
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and not is_deterministic(site):
            yield name, site


def _base(site: Site) -> Any:
    fn = site["fn"]
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


def _other_odds(site: Site, again: Site | None) -> bool:
    """Whether a Bernoulli site had other logits in a second run."""
    if again is None or not isinstance(_base(site), Bernoulli):
        return False
    one, two = _base(site).logits, _base(again).logits
    return one.shape == two.shape and not torch.allclose(one, two, equal_nan=True)


def _user_scale(site: Site) -> float:
    """A site's scale without its plates' N/B; the first element where it is a tensor."""
    scale = site["scale"]
    scale = float(scale.flatten()[0]) if isinstance(scale, Tensor) else float(scale)
    for frame in site["cond_indep_stack"]:
        if frame.full_size:
            scale *= frame.size / frame.full_size
    return 1.0 if abs(scale - 1.0) < 1e-6 else scale


def _treated_alike(first: Site, second: Site) -> bool:
    for name in ("scale", "mask"):
        one, two = first[name], second[name]
        if isinstance(one, Tensor) and isinstance(two, Tensor):
            if one.shape != two.shape or not bool((one == two).all()):
                return False
        elif isinstance(one, Tensor) or isinstance(two, Tensor):
            return False
        elif name == "mask":
            if (one is not False) != (two is not False):
                return False
        elif one != two:
            return False
    masks = [own_masks(site["fn"]) for site in (first, second)]
    return len(masks[0]) == len(masks[1]) and all(_alike(*both) for both in zip(*masks, strict=True))


def _alike(first: Tensor | bool, second: Tensor | bool) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and bool((first == second).all())
    return first is second


def _unique(names: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
