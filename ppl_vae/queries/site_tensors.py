"""How a site's tensor is laid out for the user, and how a user's latents go back into a program."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ppl_vae.core.sites import Site, is_of_data
from ppl_vae.core.terms import factor
from ppl_vae.queries.arguments import spelled


def laid_out(tensor: Tensor, site: Site, lead: tuple[int, ...] = (), plate_dim: int | None = None) -> Tensor:
    """A site's tensor as (*lead, *inner plates, n, *event), without the 1s of plates it is not in."""
    batch_shape, event_shape = site["fn"].batch_shape, site["fn"].event_shape
    framed = {frame.dim for frame in site["cond_indep_stack"]}
    shape: list[int] = []
    for dim, size in zip(range(-len(batch_shape), 0), batch_shape):
        if dim == plate_dim:
            shape += lead
        elif size != 1 or dim in framed:
            shape.append(size)
    return tensor.expand(batch_shape + event_shape).reshape((*shape, *event_shape))


def core_shape(site: Site) -> list[int | None]:
    """The shape that a latent must have, None standing for n."""
    fn, frames = site["fn"], site["cond_indep_stack"]
    framed = {frame.dim for frame in frames}
    data_dim = next((frame.dim for frame in frames if is_of_data(frame)), None)
    dims = range(-len(fn.batch_shape), 0)
    batch = [
        None if dim == data_dim else size
        for dim, size in zip(dims, fn.batch_shape)
        if size != 1 or dim in framed
    ]
    return [*batch, *fn.event_shape]


def data_first(tensor: Tensor, site: Site) -> Tensor:
    """A site's tensor as (n, *inner plates, *event), for a site in the plate of data."""
    return laid_out(tensor, site).movedim(core_shape(site).index(None), 0)


def counted(site: Site) -> Tensor:
    """Which elements of a site's value count, (n, *inner plates, *event): none under a mask that is False."""
    return data_first((factor(site) != 0).expand_as(site["value"]), site)


def common_shape(chosen: Mapping[str, Tensor], sites: Mapping[str, Site]) -> tuple[torch.Size, int | None]:
    """The dims to the left that the chosen latents share, and n (None when no site is in `data`)."""
    lead, n = torch.Size(), None
    for name, value in chosen.items():
        core = core_shape(sites[name])
        wanted = [size if size is not None or n is None else n for size in core]
        shown = spelled(["...", *("n" if size is None else size for size in wanted)])
        tail = value.shape[value.dim() - len(core) :] if value.dim() >= len(core) else None
        if tail is None or any(size not in (None, got) for size, got in zip(wanted, tail)):
            raise ValueError(f"latent site {name!r}: expected shape {shown}, got {tuple(value.shape)}")
        n = next((got for size, got in zip(wanted, tail) if size is None), n)
        extra = value.shape[: value.dim() - len(core)]
        if len(extra) and len(lead) and extra != lead:
            raise ValueError(
                f"latent site {name!r}: its leading dims {tuple(extra)} differ from another site's "
                f"{tuple(lead)}"
            )
        lead = extra if len(extra) else lead
    return lead, n


def placed(value: Tensor, site: Site, count: int, plate_dim: int | None) -> Tensor:
    """A chosen latent as the program wants it: 1s for the plates it is not in, the lead in one dim."""
    core = core_shape(site)
    batch_shape, event_shape = site["fn"].batch_shape, site["fn"].event_shape
    framed = {frame.dim for frame in site["cond_indep_stack"]}
    tail = list(value.shape[value.dim() - len(core) :])
    dims = range(-len(batch_shape), 0)
    shape = [tail.pop(0) if size != 1 or dim in framed else 1 for dim, size in zip(dims, batch_shape)]
    if plate_dim is None:
        return value.reshape(*shape, *event_shape)
    ones = [1] * (-plate_dim - 1 - len(shape))
    leading = count if value.dim() > len(core) else 1
    return value.reshape(leading, *ones, *shape, *event_shape)
