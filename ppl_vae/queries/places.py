"""Where in a batch's tensors the elements stand that each observed site has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ppl_vae.core.isolation import validation
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import Site
from ppl_vae.queries.handlers import run
from ppl_vae.queries.site_tensors import data_first

_FEW = 2  # rows, in which an argument's elements are told from one another

Places = Mapping[int, tuple[Tensor, Tensor]]
"""By argument: the elements of a site's datum that stand there, and where."""


def element_places(pair: Pair, batch: Sequence[Tensor], sites: Sequence[str]) -> dict[str, Places]:
    """Where in the arguments the data of each site stand, found by running the model on zeros and ones.

    Elements that are none of an argument's, as they are, stand nowhere: see `is_covered`.
    """
    few = tuple(batch) if pair.fixed_rows else tuple(tensor[:_FEW] for tensor in batch)
    found: dict[str, dict[int, tuple[Tensor, Tensor]]] = {name: {} for name in sites}
    for place, tensor in enumerate(few):
        for name, number in _numbers(pair, few, place, tensor[0].numel(), sites).items():
            own = (number >= 0).nonzero().squeeze(1)
            if len(own):
                found[name][place] = own, number[own]
    return {name: dict(each) for name, each in found.items()}


def is_covered(places: Places, size: int) -> bool:
    """Whether all `size` elements of a site's datum stand in some argument."""
    return len({element for own, _ in places.values() for element in own.tolist()}) == size


def rows(site: Site) -> Tensor:
    """The value of a site, (n, elements of a datum)."""
    value = data_first(site["value"], site)
    return value.reshape(len(value), -1)


def _numbers(
    pair: Pair, batch: tuple[Tensor, ...], place: int, size: int, sites: Sequence[str]
) -> dict[str, Tensor]:
    """For each element of a site's datum the element of one argument that it is, -1 for none; by site."""
    numbers = torch.arange(size, device=batch[place].device)

    def seen(bit: Tensor) -> dict[str, Tensor]:
        changed = bit.to(batch[place].dtype).view(batch[place].shape[1:]).expand_as(batch[place])
        with validation(False):  # the values may lie outside of a support
            trace = run(pair.model, (*batch[:place], changed.clone(), *batch[place + 1 :]))
        return {name: rows(trace.nodes[name]) for name in sites}

    try:
        zeros, ones = seen(torch.zeros_like(numbers)), seen(torch.ones_like(numbers))
        bits = [seen((numbers >> bit) & 1) for bit in range(max(1, (size - 1).bit_length()))]
    except Exception:  # such as an index out of range: it is no site's data
        return {}
    found = {}
    for name in sites:
        is_it = (zeros[name] == 0).all(0) & (ones[name] == 1).all(0)
        number = torch.zeros_like(is_it, dtype=torch.long)
        for bit, values in enumerate(bits):
            row = values[name][0]
            is_it &= (values[name] == row).all(0) & ((row == 0) | (row == 1))
            number += (row == 1).long() << bit
        found[name] = number.where(is_it, torch.full_like(number, -1))
    return found
