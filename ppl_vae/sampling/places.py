"""Places: which entries of a batch the elements of an observed site are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.core.isolation import validation
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import observed_names
from ppl_vae.core.subsampling import draw_whole, whole_plate
from ppl_vae.queries.inputs import names_of


@dataclass(frozen=True)
class Place:
    """Where the elements of a site stand in a batch.

    Attributes:
        argument: the number of the tensor.
        index: of each element of the site's values, its number in that tensor flattened; None where the two
            are the same tensor.
    """

    argument: int
    index: Tensor | None

    def take(self, tensor: Tensor) -> Tensor:
        """A tensor of the batch as the site has it."""
        return tensor if self.index is None else tensor.reshape(-1)[self.index]

    def put(self, value: Tensor, tensor: Tensor, hidden: Tensor) -> Tensor:
        """(K, *shape) tensors with their hidden entries from K values of the site."""
        count = len(tensor)
        if self.index is None:
            return torch.where(hidden, value.reshape(tensor.shape).to(tensor), tensor)
        flat, index = tensor.reshape(count, -1).clone(), self.index.reshape(-1)
        chosen = hidden.reshape(-1)[index]
        flat[:, index[chosen]] = value.reshape(count, -1)[:, chosen].to(tensor)
        return flat.reshape(tensor.shape)


def find_places(pair: Pair, batch: tuple[Tensor, ...]) -> dict[str, Place]:
    """Which entries of the batch the elements of each observed site are; sites that observe something
    else are not among them.
    """
    generator = torch.Generator().manual_seed(0)
    # other numbers in each entry, so that no two tensors look alike
    trial = tuple(
        torch.rand(each.shape, generator=generator).to(each) if each.is_floating_point() else each
        for each in batch
    )
    with validation(False):
        drawn = draw_whole(pair.model, pair.guide, trial)
    names = names_of(pair, len(batch))
    places: dict[str, Place] = {}
    for site in observed_names(drawn.model_trace):
        value = drawn.model_trace.nodes[site]["value"]
        same = [
            n
            for n, each in enumerate(trial)
            if value.shape == each.shape and torch.equal(value.to(each), each)
        ]
        if same:
            named = names.index(site) if site in names else -1
            places[site] = Place(named if named in same else same[0], None)
            continue
        for number, each in enumerate(trial):
            if each.is_floating_point() and site not in places:
                numbered = _numbered(pair, trial, number, drawn.guide_trace).nodes.get(site)
                index = _index(None if numbered is None else numbered["value"], value, each)
                if index is not None:
                    places[site] = Place(number, index)
    return places


def _index(numbered: Tensor | None, value: Tensor, tensor: Tensor) -> Tensor | None:
    """The entries of a tensor that a site's value consists of, from its value for their numbers."""
    if numbered is None or numbered.shape != value.shape or not bool(numbered.isfinite().all()):
        return None
    index = numbered.round().long()
    if not bool((numbered == index).all()) or not bool(((index >= 0) & (index < tensor.numel())).all()):
        return None
    return index if torch.equal(tensor.reshape(-1)[index], value.to(tensor)) else None


def _numbered(pair: Pair, batch: tuple[Tensor, ...], number: int, guide_trace: Trace) -> Trace:
    """The model's run on a batch in which one tensor holds the numbers of its entries."""
    tensor = batch[number]
    count = torch.arange(tensor.numel(), device=tensor.device).reshape(tensor.shape).to(tensor)
    given = tuple(count if position == number else each for position, each in enumerate(batch))
    with whole_plate(len(tensor)), validation(False):
        return poutine.trace(poutine.replay(pair.model, trace=guide_trace)).get_trace(*given)
