"""Completing: what is hidden of a batch, drawn from the model given latents, and its mean."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from pyro.distributions import Categorical
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.core.elements import OfSeveralFamilies, elements
from ppl_vae.core.isolation import validation
from ppl_vae.core.sites import Site
from ppl_vae.queries.handlers import find_plate_dim, sample_sites, several
from ppl_vae.sampling.hidden import Hidden


class Complete(Messenger):
    """Within it a site draws the elements that are hidden, and keeps what is observed.

    Args:
        masks: by site, True where observed, laid out as the program's values.
    """

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.masks = masks

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.masks and msg["is_observed"]:
            drawn = msg["fn"].sample().to(msg["value"])
            msg["value"] = torch.where(self.masks[name], msg["value"], drawn)


class Completion:
    """What goes with K draws of the latents: complete tensors of the batch, and their means.

    Args:
        hidden: the batch.

    Attributes:
        unordered: by the number of a tensor, which of its entries are classes, which have no mean.
    """

    def __init__(self, hidden: Hidden) -> None:
        self.hidden = hidden
        self.unordered: dict[int, Tensor] = {}
        self._dim = find_plate_dim(hidden.pair, hidden.batch)
        self._model = Complete(hidden.masks)(hidden.pair.model)

    def __call__(self, trace: Trace, count: int) -> dict[tuple[str, int], Tensor]:
        """(count, B, ...) as ("draw", 0), ("mean", 0) and so on, by the number of the tensor."""
        hidden = self.hidden
        # a validated sample would refuse the fill of what is hidden
        with validation(False):
            run = several(
                self._model, hidden.batch, count, self._dim if count > 1 else None, replay=_latents(trace)
            )
        draws, means = {}, {}
        for name, places in hidden.places.items():
            site = run.nodes[name]
            draws[name], means[name] = _whole(site["value"], site), _whole(_centre(site), site)
            flags = _unordered(site).to(draws[name].device).expand(places[0].shape)
            for place in places:
                none = torch.zeros_like(hidden.hidden[place.argument])
                known = self.unordered.get(place.argument, none).unsqueeze(0)
                self.unordered[place.argument] = place.put(flags.unsqueeze(0), known, ~none)[0]
        drawn = {("draw", number): tensor for number, tensor in hidden.filled(draws, count).items()}
        centres = hidden.filled(means, count, real=True)
        return drawn | {("mean", number): tensor for number, tensor in centres.items()}


def _latents(trace: Trace) -> Trace:
    """A trace without what is observed in it, which replay would refuse."""
    for each in (trace, *getattr(trace, "singles", ())):
        for name, site in sample_sites(each).items():
            if site["is_observed"]:
                each.remove_node(name)
    return trace


def _whole(value: Tensor, site: Site) -> Tensor:
    return value.expand(site["fn"].batch_shape + site["fn"].event_shape)


def _centre(site: Site) -> Tensor:
    """The mean of a site's distribution, NaN where there is none, as of a Cauchy; its draw where it does not
    say: the average of these is the mean.
    """
    with suppress(NotImplementedError):
        mean: Tensor = site["fn"].mean
        return mean
    value: Tensor = site["value"]
    return value


def _unordered(site: Site) -> Tensor:
    """Whether a site's elements are numbers of classes without an order: one boolean, or one a column."""
    single = elements(site["fn"], site["name"])
    while hasattr(single, "base_dist"):
        single = single.base_dist
    if not isinstance(single, OfSeveralFamilies):
        return torch.tensor(_is_of_classes(single))
    columns = single.split(torch.zeros(site["value"].shape[-1]))
    flags = [torch.full(each.shape, float(_is_of_classes(part))) for part, each in zip(single.parts, columns)]
    return single.join(flags).bool()


def _is_of_classes(fn: Any) -> bool:
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return isinstance(fn, Categorical) and not getattr(fn, "ordered", False)
