"""Walks in latent space: between two data, and along one dimension at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from ppl_vae.core.checks import check_count, checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair, require_pair
from ppl_vae.core.sites import Site
from ppl_vae.queries.arguments import Batch, as_tensors, check_site
from ppl_vae.queries.draws import Draws, Traversal
from ppl_vae.queries.handlers import centre, is_discrete
from ppl_vae.queries.inputs import Inputs
from ppl_vae.queries.questions import decode
from ppl_vae.queries.site_tensors import laid_out


@one_thread
@checked(steps=2)
def interpolate(
    pair: Pair,
    x0: Batch,
    x1: Batch,
    steps: int = 8,
    method: Literal["linear", "spherical"] = "linear",
    site: str | None = None,
    *,
    free: Sequence[str] = (),
    inputs: Inputs | None = None,
    given: Sequence[str] = (),
    seed: int | None = None,
) -> Draws:
    r"""Decode a path in latent space from the guide's mean of x0 to that of x1, t from 0 to 1.

    .. math:: z_t = (1 - t) z_0 + t z_1 \quad\text{or}\quad
        z_t = \frac{\sin((1 - t) \omega)}{\sin \omega} z_0 + \frac{\sin(t \omega)}{\sin \omega} z_1

    with omega the angle between z_0 and z_1. Parallel, opposite and zero vectors, between which no
    arc is defined, go straight. A discrete site jumps from one end to the other half way.

    Args:
        x0, x1: the two ends, batches of the same shape; the result is (steps, n, ...).
        site: the latent site that moves, the others staying at x0's mean; all of them by default.
        free: latent sites to leave to the model, drawn given the others: those that hang on `site`
            in a hierarchy.
        inputs: the model's arguments by name, as in `sample`; x0's by default. The guide sees each end's own.
        given: observed sites to hold at x0's data.

    Raises:
        ValueError: for different shapes, an unknown site or method, fewer than 2 steps.

    White, Sampling Generative Networks, arXiv:1609.04468 (the spherical path).
    """
    require_pair(pair)
    if method not in ("linear", "spherical"):
        raise ValueError(f"method must be 'linear' or 'spherical', got {method!r}")
    with questioning(pair, seed, pair.device):
        first, second = as_tensors(pair, x0), as_tensors(pair, x1)
        shapes = [[tuple(tensor.shape) for tensor in end] for end in (first, second)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"x0 and x1 must have the same shapes, got {shapes[0]} and {shapes[1]}")
        start, end = centre(pair, first), centre(pair, second)
        _check_moving(site, free, start)
        path: dict[str, Tensor] = {}
        for name, at in start.items():
            if name in free:
                continue
            here, there = laid_out(at["value"], at), laid_out(end[name]["value"], end[name])
            if site is not None and name != site:
                path[name] = here
            elif is_discrete(at["fn"]):
                path[name] = torch.stack([here if 2 * i < steps - 1 else there for i in range(steps)])
            else:
                path[name] = _path(here, there, steps, method, len(at["fn"].event_shape))
        return decode(pair, path, inputs=inputs, like=first, given=given)


@one_thread
@checked()
def traverse(
    pair: Pair,
    x: Batch,
    site: str | None = None,
    dims: Iterable[int] | None = None,
    *,
    values: Iterable[float] | None = None,
    span: float = 3.0,
    steps: int = 7,
    free: Sequence[str] = (),
    inputs: Inputs | None = None,
    given: Sequence[str] = (),
    seed: int | None = None,
) -> Traversal:
    r"""Decode while one latent dimension at a time takes fixed values, the rest at the guide's mean.

    .. math:: x \sim p\bigl(x \mid z_j = v, \; z_{-j} = \mathrm{E}_q[z_{-j} \mid x]\bigr)

    Args:
        x: a batch of n data; the result is (len(dims), steps, n, ...).
        site: the latent site; needed when there are several.
        dims: dimensions of the site's flattened event; all of them by default.
        values: what the dimension is set to; `steps` values from -span to span by default.
        free: latent sites to leave to the model, as in `interpolate`.
        inputs: the model's arguments by name, as in `sample`; those of x by default.
        given: observed sites to hold at the data.

    Raises:
        ValueError: for an unknown or discrete site and for dims that are out of range.
    """
    require_pair(pair)
    with questioning(pair, seed, pair.device):
        batch = as_tensors(pair, x)
        centres = centre(pair, batch)
        if site is None and len(centres) != 1:
            raise ValueError(f"this pair has the latent sites {list(centres)}: say which one moves, site=...")
        site = next(iter(centres)) if site is None else site
        _check_moving(site, free, centres)
        fn = centres[site]["fn"]
        if is_discrete(fn):
            raise ValueError(f"site {site!r} is discrete, so there is nothing between its values: use decode")
        size = fn.event_shape.numel()
        chosen = tuple(range(size)) if dims is None else tuple(dims)
        wrong = [dim for dim in chosen if not 0 <= dim < size]
        if wrong or not chosen:
            raise ValueError(f"dims must be in 0 ... {size - 1} for site {site!r}, got {wrong or 'none'}")
        if values is None:
            # linspace's middle is not zero but rounding error
            away = torch.arange(steps, dtype=torch.float64) - (steps - 1) / 2
            positions = (away * (2 * span / max(1, steps - 1))).to(torch.get_default_dtype())
        else:
            positions = torch.as_tensor([float(value) for value in values])
            check_count("the number of values", len(positions))
        latents = {name: laid_out(at["value"], at) for name, at in centres.items() if name not in free}
        base = latents[site]
        flat = base.reshape(*base.shape[: base.dim() - len(fn.event_shape)], size)
        grid = flat.expand(len(chosen), len(positions), *flat.shape).clone()
        moved = positions.to(flat).reshape(-1, *[1] * (flat.dim() - 1))
        for row, dim in enumerate(chosen):
            grid[row, ..., dim] = moved
        latents[site] = grid.reshape(len(chosen), len(positions), *base.shape)
        draws = decode(pair, latents, inputs=inputs, like=batch, given=given)
        return Traversal(draws.latents, draws.values, draws.means, site, chosen, positions)


def _check_moving(site: str | None, free: Sequence[str], sites: Mapping[str, Site]) -> None:
    if isinstance(free, str):
        raise ValueError(f"free must be a sequence of sites, got a string: write free=[{free!r}]")
    for name in (*free, *([] if site is None else [site])):
        check_site(name, sites)
    if site in free or len(free) == len(sites):
        raise ValueError(f"nothing moves: free={list(free)} leaves the site to the model")


def _path(start: Tensor, end: Tensor, steps: int, method: str, event_dim: int) -> Tensor:
    """(steps, *shape): from start to end, straight or along the arc between them."""
    t = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)
    t = t.reshape(-1, *[1] * start.dim())
    straight = (1 - t) * start + t * end
    if method == "linear" or event_dim == 0:
        return straight
    events = tuple(range(-event_dim, 0))
    lengths = [torch.linalg.vector_norm(z, dim=events, keepdim=True) for z in (start, end)]
    first, second = (z / length.clamp_min(1e-30) for z, length in zip((start, end), lengths))
    # accurate for small angles too, unlike the arc cosine of the scalar product
    angle = 2 * torch.atan2(
        torch.linalg.vector_norm(first - second, dim=events, keepdim=True),
        torch.linalg.vector_norm(first + second, dim=events, keepdim=True),
    )
    sine = torch.sin(angle)
    undefined = (sine < 1e-3) | (lengths[0] * lengths[1] == 0)
    sine = sine.masked_fill(undefined, 1.0)
    arc = (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end) / sine
    return torch.where(undefined, straight, arc)
