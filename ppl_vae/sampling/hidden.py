"""Hidden: a batch of which some entries are not to be seen, and the model that leaves them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.core.drawing import at_draws
from ppl_vae.core.elements import masked
from ppl_vae.core.isolation import random_numbers, validation
from ppl_vae.core.missing import takes_missing
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError, Program, is_bookkeeping, latent_names
from ppl_vae.core.subsampling import draw_whole, whole_plate
from ppl_vae.queries.arguments import Batch, as_tensors, tensor_of, with_missing
from ppl_vae.queries.inputs import names_of
from ppl_vae.sampling.places import Place, covered, find_places, seen

_READ = "the model reads them outside obs=, where no mask reaches them"

Observed = Tensor | Mapping[str, Tensor] | None
"""True where observed: of the shape of the batch's only tensor, or by the names of the programs'
arguments.
"""


class OnlySeen(Messenger):
    """Within it sites observe some of their elements alone.

    Args:
        masks: by site, laid out as the program's values, True where observed.
    """

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.masks = masks

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.masks and msg["is_observed"]:
            msg["fn"] = masked(msg["fn"], self.masks[msg["name"]], msg["name"], of_values=True)


@dataclass(frozen=True)
class Hidden:
    """A batch with gaps.

    Attributes:
        pair: that it is for.
        batch: its tensors; what is hidden is NaN for a guide that takes NaN as missing, else 0.
        hidden: of each tensor, True where an entry is hidden.
        places: by observed site with hidden elements, which entries of which tensors its elements are.
        masks: by the same sites, True where observed, laid out as the program's values.
        model: the model, which leaves out what is hidden.
        completed: the numbers of the tensors that have hidden entries, here or in other parts of the data.
    """

    pair: Pair
    batch: tuple[Tensor, ...]
    hidden: tuple[Tensor, ...]
    places: Mapping[str, tuple[Place, ...]]
    masks: Mapping[str, Tensor]
    model: Program
    completed: tuple[int, ...] = ()

    def _each_place(self) -> Iterator[tuple[str, Place]]:
        for site, places in self.places.items():
            for place in places:
                if place.argument in self.completed:
                    yield site, place

    @property
    def any(self) -> bool:
        """Whether anything is hidden."""
        return bool(self.places)

    def filled(self, values: Mapping[str, Tensor], count: int, real: bool = False) -> dict[int, Tensor]:
        """(count, *shape) by the number of a tensor: with the hidden entries from `values`, by site, laid out
        as `count` runs of the program at once have them.

        Args:
            real: as real numbers, for means of whole ones.
        """
        tensors: dict[int, Tensor] = {}
        for site, place in self._each_place():
            number = place.argument
            given = self.batch[number]
            given = given.to(self.pair.dtype) if real and not given.is_floating_point() else given
            tensor = tensors.get(number, given.expand(count, *given.shape))
            tensors[number] = place.put(values[site], tensor, self.hidden[number])
        return tensors


def hide(pair: Pair, batch: Sequence[Batch], observed: Observed, what: str) -> Hidden:
    """A batch with gaps: its NaN, and what `observed` says.

    Raises:
        PairError: where a hidden entry is no element of an observed site that factorises, or is read
            elsewhere in the model.
        ValueError: for an `observed` that does not fit.
    """
    # NaN is a gap, whether the programs would take it or not
    given = with_missing(pair, batch)
    tensors = as_tensors(pair, [each.masked_fill(each.isnan(), 0) for each in given])
    hidden = _hidden(pair, tensors, observed)
    for number, each in enumerate(given):
        hidden[number] = hidden[number] | each.isnan().to(pair.device)
    return with_gaps(pair, tensors, tuple(hidden), what)


def _hidden(pair: Pair, tensors: tuple[Tensor, ...], observed: Observed) -> list[Tensor]:
    masks = [torch.zeros_like(tensor, dtype=torch.bool) for tensor in tensors]
    if observed is None:
        return masks
    names = names_of(pair, len(tensors)) or tuple(str(number) for number in range(len(tensors)))
    if not isinstance(observed, Mapping):
        if len(tensors) > 1:
            raise ValueError(
                f"a batch of {len(tensors)} tensors needs observed= by name, observed={{{names[0]!r}: mask}}"
            )
        observed = {names[0]: observed}
    for name, mask in observed.items():
        if name not in names:
            raise ValueError(f"observed names {name!r}, but the programs take {list(names)}")
        number = names.index(name)
        seen = tensor_of(mask).to(pair.device)
        shape = tuple(tensors[number].shape)
        if seen.dtype != torch.bool:
            raise ValueError(
                f"observed[{name!r}] must be boolean, True where observed, got {seen.dtype}: mask.bool()"
            )
        fits = seen.dim() <= len(shape) and all(
            size in (1, own) for size, own in zip(reversed(seen.shape), reversed(shape))
        )
        if not fits:
            raise ValueError(f"observed[{name!r}]: expected shape {shape}, got {tuple(seen.shape)}")
        masks[number] = ~seen.expand(shape)
    return masks


def with_gaps(
    pair: Pair,
    tensors: tuple[Tensor, ...],
    hidden: tuple[Tensor, ...],
    what: str,
    wanted: Sequence[int] | None = None,
) -> Hidden:
    """A batch whose gaps are known; as `hide`.

    Args:
        wanted: the numbers of the tensors that are completed; those with gaps by default.
    """
    if wanted is None:
        wanted = [number for number, mask in enumerate(hidden) if bool(mask.any())]
    if not wanted:
        return Hidden(pair, tensors, hidden, {}, {}, pair.model)
    fill = torch.nan if takes_missing(pair.guide) else 0.0
    batch = tuple(
        tensor.masked_fill(mask, fill if tensor.is_floating_point() else 0)
        for tensor, mask in zip(tensors, hidden)
    )
    places = _places(pair, batch, hidden, wanted, what)
    masks = {site: seen(parts, hidden) for site, parts in places.items()}
    model = OnlySeen(masks)(pair.model)
    result = Hidden(pair, batch, hidden, places, masks, model, tuple(wanted))
    _require_unread(result, what)
    return result


def _places(
    pair: Pair, batch: tuple[Tensor, ...], hidden: tuple[Tensor, ...], wanted: Sequence[int], what: str
) -> dict[str, tuple[Place, ...]]:
    """The places of all sites that observe entries of these tensors."""
    places = find_places(pair, batch)
    for number in wanted:
        lost = hidden[number] & ~covered(places, number, batch[number])
        if bool(lost.any()):
            name = (names_of(pair, len(batch)) or [f"number {n}" for n in range(len(batch))])[number]
            entry = tuple(lost.nonzero()[0].tolist())
            raise PairError(
                f"{what}: hidden entries of {name!r}, such as that at {entry}, are the data of no site, as "
                "they are. What a site observes must be the argument itself, or its entries in another order"
            )
    return {site: parts for site, parts in places.items() if any(part.argument in wanted for part in parts)}


def _require_unread(hidden: Hidden, what: str) -> None:
    """Refuse a model whose density of what is seen depends on the hidden entries."""
    first = tuple(tensor.nan_to_num() if tensor.is_floating_point() else tensor for tensor in hidden.batch)
    second = tuple(
        torch.where(mask, tensor + 1 if tensor.dtype != torch.bool else ~tensor, tensor)
        for tensor, mask in zip(first, hidden.hidden)
    )
    pair = hidden.pair
    drawn = draw_whole(hidden.model, pair.guide, hidden.batch)
    totals = []
    for batch in (first, second):
        state = torch.get_rng_state()
        with whole_plate(len(batch[0])), validation(False):
            particles = at_draws(hidden.model, pair.guide, drawn.guide_trace, batch)
        torch.set_rng_state(state)
        terms = [*particles.log_likelihood.values(), *particles.densities("log_prior").values()]
        totals.append(torch.stack([term.expand(1, len(batch[0])) for term in terms]).sum(0))
    if not torch.allclose(totals[0], totals[1], rtol=1e-4, atol=1e-4, equal_nan=True):
        raise PairError(
            f"{what}: the density of what is observed changes, by "
            f"{float((totals[0] - totals[1]).abs().max()):.3g} nats, when hidden entries are "
            f"others: {_READ}"
        )
    _require_same_laws(hidden, drawn.guide_trace, (first, second), what)


def _require_same_laws(
    hidden: Hidden, guide_trace: Trace, batches: Sequence[tuple[Tensor, ...]], what: str
) -> None:
    """Refuse a model in which what is hidden of a site follows hidden entries, and not the other sites."""
    same = _SameValues(hidden.masks, {n: guide_trace.nodes[n]["value"] for n in latent_names(guide_trace)})
    found: list[dict[str, Tensor]] = []
    with random_numbers(0, hidden.pair.device), validation(False):
        for batch in batches:
            with whole_plate(len(batch[0])):
                nodes = poutine.trace(same(hidden.pair.model)).get_trace(*batch).nodes
            found.append({name: nodes[name]["fn"].log_prob(nodes[name]["value"]) for name in hidden.places})
    for name, density in found[0].items():
        if not torch.allclose(density, found[1][name], rtol=1e-4, atol=1e-4, equal_nan=True):
            raise PairError(
                f"{what}: what is hidden at site {name!r} would be drawn from another distribution if other "
                f"hidden entries were others: {_READ}. What a site is to know of another one is that one's "
                "value, as in x = pyro.sample('x', ..., obs=x)"
            )


class _SameValues(Messenger):
    """Within it, run after run, every site has the value of the first run, where what is hidden is drawn."""

    def __init__(self, masks: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.masks, self.values = masks, dict(values)

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.values:
            msg["value"] = self.values[name]
        elif name in self.masks and msg["is_observed"]:
            drawn = msg["fn"].sample().to(msg["value"])
            msg["value"] = torch.where(self.masks[name], msg["value"], drawn)

    def _pyro_post_sample(self, msg: Any) -> None:
        if not is_bookkeeping(msg):
            self.values.setdefault(msg["name"], msg["value"])
