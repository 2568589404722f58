"""Data that the model draws, as the batch that the programs are called with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.core.dependence import readings
from ppl_vae.core.isolation import validation
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError, Site, data_frame
from ppl_vae.data.selection import taken_by
from ppl_vae.queries.arguments import Batch
from ppl_vae.queries.handlers import latent_sites, run, sample_sites
from ppl_vae.queries.inputs import Inputs, names_of
from ppl_vae.queries.places import Places, element_places, is_covered
from ppl_vae.queries.places import rows as _rows
from ppl_vae.queries.questions import drawn_from_model
from ppl_vae.queries.site_tensors import counted
from ppl_vae.queries.undrawn import refuse_factors, refuse_scales


def simulate(
    pair: Pair,
    n: int,
    *,
    inputs: Inputs | None = None,
    like: Batch | None = None,
    given: Sequence[str] = (),
) -> tuple[tuple[Tensor, ...], Trace]:
    """n data that the model draws, as a batch of the programs, and the run that drew them, with its latents.

    Each observed site's draw goes into the argument that holds its data, wherever its elements stand there:
    that is found by running the model on zeros and ones, and the batch is then held against the draw. What
    is missing in `like` (NaN) stays missing, and what a mask leaves out stays as it is there. Run it within
    `isolation.questioning`.

    Args:
        inputs, like, given: as in `sample`.

    Raises:
        ValueError: as `sample`.
        PairError: for a site whose data are not elements of the arguments, as they are; for an argument that
            the guide reads and nothing has chosen; for a model whose draws do not follow its density.
    """
    batch, trace = drawn_from_model(pair, n, inputs, like, given)
    refuse_factors(trace)
    refuse_scales(trace)
    drawn = {name: site for name, site in sample_sites(trace).items() if site["infer"].get("was_observed")}
    if shared := [name for name, site in drawn.items() if data_frame(site) is None]:
        raise PairError(f"the sites {shared} are observed outside the plate of data, so they are no datum's")
    places = element_places(pair, batch, list(drawn))
    for name in drawn:
        if not is_covered(places[name], _rows(drawn[name]).shape[1]):
            raise PairError(
                f"site {name!r}: what it observes is not made of the batch's tensors as they are, so what "
                f"the model draws there cannot be handed to the guide in their place. Let it observe an "
                f"argument itself, pyro.sample({name!r}, ..., obs={name}), and transform the data before"
            )
    filled = list(batch)
    for name, site in drawn.items():
        values, counts = _rows(site), counted(site).reshape(n, -1)
        for place, (own, elements) in places[name].items():
            filled[place] = _put(filled[place], elements, values[:, own], counts[:, own])
    simulated = _without_unchosen(pair, tuple(filled), places, inputs, like, latent_sites(trace))
    _require_the_same(pair, simulated, drawn)
    return simulated, trace


def _put(argument: Tensor, elements: Tensor, values: Tensor, counts: Tensor) -> Tensor:
    flat = argument.reshape(len(argument), -1).clone()
    new = values.to(flat.dtype)
    # what is masked keeps its padding, which the guide is used to and which tells it nothing
    flat[:, elements] = new.where(counts & ~flat[:, elements].isnan(), flat[:, elements])
    return flat.view(argument.shape)


def _without_unchosen(
    pair: Pair,
    batch: tuple[Tensor, ...],
    places: Mapping[str, Places],
    inputs: Inputs | None,
    like: Batch | None,
    latents: Mapping[str, Site],
) -> tuple[Tensor, ...]:
    """The batch, without optional arguments at its end that are no site's data and that nobody has chosen: a
    label, for instance, which would tell the guide of another datum than the one that was drawn.
    """
    names = names_of(pair, len(batch)) or tuple(f"number {place}" for place in range(len(batch)))
    taken = taken_by(pair)
    optional = {name for name in names if taken is not None and name not in taken.required}
    data = {
        place: sum(len(each[place][1]) for each in places.values() if place in each)
        for place in range(len(batch))
    }
    chosen = set(inputs or {}) | (set() if like is None else set(names) - set(latents))
    unchosen = [
        place
        for place, name in enumerate(names)
        if data[place] < batch[place][0].numel() and name not in chosen
    ]
    while unchosen and unchosen[-1] == len(batch) - 1 and names[unchosen[-1]] in optional:
        batch = batch[: unchosen.pop()]
    reads = readings(pair.guide, batch, pair.device) if unchosen else []
    for place in unchosen:
        name = names[place]
        if reads and not reads[place].matters and not data[place] and not _masks(pair, batch, place):
            continue
        if name in latents:
            raise PairError(
                f"the guide reads the argument {name!r}, which tells it of a latent that the model draws: "
                f"choose what says that it is not known, inputs={{{name!r}: ...}}, or let the "
                f"argument be left out, {name}=None"
            )
        raise PairError(
            f"the programs read the argument {name!r}, which the model does not draw, so its values must be "
            f"chosen to go with the draws: inputs={{{name!r}: ...}}, or like= a batch"
        )
    return batch


def _masks(pair: Pair, batch: tuple[Tensor, ...], place: int) -> bool:
    """Whether an argument decides what is masked: it changes no density, and which of them count."""
    found = []
    for value in (torch.zeros_like(batch[place]), torch.ones_like(batch[place])):
        changed = (*batch[:place], value, *batch[place + 1 :])
        with validation(False):
            traces = [run(program, changed) for program in (pair.model, pair.guide)]
        found.append([node["mask"] for trace in traces for node in sample_sites(trace).values()])
    return len(found[0]) != len(found[1]) or not all(map(_same, *found))


def _same(first: object, second: object) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.equal(first, second)
    return first is second


def _require_the_same(pair: Pair, batch: tuple[Tensor, ...], drawn: Mapping[str, Site]) -> None:
    """Raise PairError unless the model observes on the batch what was drawn."""
    with validation(False):
        seen = run(pair.model, batch).nodes
    for name, site in drawn.items():
        now, then, counts = _rows(seen[name]), _rows(site), counted(site)
        same = (now == then.to(now.dtype)) | now.isnan() | ~counts.reshape(now.shape)
        if not bool(same.all()):
            raise PairError(
                f"site {name!r}: the model observes other values than it was given, so that no batch stands "
                f"for what it draws. Let the site observe an argument itself, row for row"
            )
