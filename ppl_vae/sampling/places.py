"""Places: which entries of a batch's tensors the elements of an observed site are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_vae.core.isolation import validation
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import data_frame, observed_names
from ppl_vae.queries.handlers import run
from ppl_vae.queries.places import element_places
from ppl_vae.queries.site_tensors import data_first


@dataclass(frozen=True)
class Place:
    """Where some elements of a site stand in a batch.

    Attributes:
        argument: the number of the tensor.
        shape: of the site's values.
        own: (M,) numbers of the elements among those of the site's values.
        index: (M,) numbers of the same in the tensor.
    """

    argument: int
    shape: torch.Size
    own: Tensor
    index: Tensor

    def put(self, value: Tensor, tensor: Tensor, hidden: Tensor) -> Tensor:
        """(K, *shape) tensors with their hidden entries from K values of the site."""
        count = len(tensor)
        flat, chosen = tensor.reshape(count, -1).clone(), hidden.reshape(-1)[self.index]
        flat[:, self.index[chosen]] = value.reshape(count, -1)[:, self.own[chosen]].to(tensor)
        return flat.reshape(tensor.shape)


def find_places(pair: Pair, batch: tuple[Tensor, ...]) -> dict[str, tuple[Place, ...]]:
    """Which entries of the batch the elements of each observed site are; sites that observe something
    else are not among them.
    """
    with validation(False):
        trace = run(pair.model, batch)
    nodes = trace.nodes
    sites = [name for name in observed_names(trace) if data_frame(nodes[name]) is not None]
    found: dict[str, tuple[Place, ...]] = {}
    for name, places in element_places(pair, batch, sites).items():
        shape = nodes[name]["fn"].batch_shape + nodes[name]["fn"].event_shape
        numbers = torch.arange(shape.numel(), device=pair.device).reshape(shape)
        numbers = data_first(numbers, nodes[name]).reshape(len(batch[0]), -1)
        parts = []
        for argument, (own, elements) in places.items():
            first = torch.arange(len(batch[0]), device=pair.device).unsqueeze(1) * batch[argument][0].numel()
            parts.append(Place(argument, shape, numbers[:, own].flatten(), (first + elements).flatten()))
        if parts:
            found[name] = tuple(parts)
    return found


def covered(places: dict[str, tuple[Place, ...]], number: int, tensor: Tensor) -> Tensor:
    """Which entries of one tensor some site observes."""
    found = torch.zeros(tensor.numel(), dtype=torch.bool, device=tensor.device)
    for parts in places.values():
        for place in parts:
            if place.argument == number:
                found[place.index] = True
    return found.reshape(tensor.shape)


def seen(places: tuple[Place, ...], hidden: tuple[Tensor, ...]) -> Tensor:
    """Which elements of a site are observed, of the shape of its values."""
    shape = places[0].shape
    mask = torch.ones(shape.numel(), dtype=torch.bool, device=hidden[0].device)
    for place in places:
        mask[place.own] = ~hidden[place.argument].reshape(-1)[place.index]
    return mask.reshape(shape)
