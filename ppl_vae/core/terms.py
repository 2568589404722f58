"""The terms of one site: its log-density in a log-weight, and that of its draw, unscaled, unmasked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from pyro.distributions.distribution import Distribution
from pyro.distributions.torch import Independent as PyroIndependent
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import Independent, TransformedDistribution

from ppl_vae.core.density import require_density
from ppl_vae.core.sites import PairError, Site, data_frame

_WRAPPERS = (MaskedDistribution, ExpandedDistribution, Independent)


class Lazily(Mapping[str, Tensor]):
    """Terms by site, some computed when first asked for: a closed-form KL leaves no use for them."""

    def __init__(self) -> None:
        self._terms: dict[str, Tensor | Callable[[], Tensor]] = {}
        self._with_gradients = torch.is_grad_enabled()

    def put(self, site: str, term: Tensor) -> None:
        self._terms[site] = term

    def promise(self, site: str, term: Callable[[], Tensor]) -> None:
        self._terms[site] = term

    def __getitem__(self, site: str) -> Tensor:
        term = self._terms[site]
        if not isinstance(term, Tensor):
            # as at the draw: who looks first, perhaps only to log it, must not take the gradient away
            with torch.set_grad_enabled(self._with_gradients):
                term = self._terms[site] = term()
        return term

    def __iter__(self) -> Iterator[str]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)

    def __repr__(self) -> str:
        return repr(dict(self))


def transformed(fn: Any) -> TransformedDistribution | None:
    """A site's distribution within `to_event`, `mask` and `expand`, if it is one with transforms."""
    while hasattr(fn, "base_dist") and not isinstance(fn, TransformedDistribution):
        fn = fn.base_dist
    return fn if isinstance(fn, TransformedDistribution) else None


def log_prob(site: Site) -> Tensor:
    """The log-density of a site's value as its distribution has it, a `mask` of its own included."""
    require_density(site)
    value: Tensor = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    return value


def draw_log_prob(site: Site) -> Tensor:
    """The log-density that a site's value was drawn from: masked or not, it was drawn."""
    require_density(site)
    value: Tensor = unmasked(site["fn"]).log_prob(site["value"], *site["args"], **site["kwargs"])
    return value


def term_of(site: Site, num_particles: int) -> Tensor:
    """(K, B), or (K,) outside the `data` plate: a site's log-density in the log-weights."""
    return reduced(log_prob(site), site, num_particles)


def draw_term(site: Site, num_particles: int) -> Tensor:
    """(K, B), or (K,) outside the `data` plate: the log-density of a site's draw, no scale or mask on it."""
    return reduced(draw_log_prob(site), {**site, "scale": ratio_of(site), "mask": None}, num_particles)


def is_plain(site: Site) -> bool:
    """Whether no scale of the user's and no mask stands between a site's draw and its term."""
    scale = scale_of(site)
    return (
        not isinstance(scale, Tensor)
        and scale == 1.0
        and (site["mask"] is None or site["mask"] is True)
        and unmasked(site["fn"]) is site["fn"]
    )


def scale_of(site: Site) -> float | Tensor:
    """A site's scale without the factor N/B of a subsampled `data` plate."""
    ratio = ratio_of(site)
    scale: float | Tensor = site["scale"] if ratio == 1.0 else site["scale"] / ratio
    return scale


def ratio_of(site: Site) -> float:
    """N/B of the `data` plate around a site; 1 outside of it."""
    frame = data_frame(site)
    return 1.0 if frame is None else ratio(frame)


def ratio(frame: Any) -> float:
    """N/B of a plate."""
    return float(frame.full_size) / float(frame.size) if frame.full_size else 1.0


def unmasked(fn: Any) -> Any:
    """A distribution without the `mask` that it bears itself; the very same one where it bears none."""
    if not isinstance(fn, _WRAPPERS):
        return fn
    base = unmasked(fn.base_dist)
    if isinstance(fn, MaskedDistribution):
        return base
    if base is fn.base_dist:
        return fn
    if isinstance(fn, ExpandedDistribution):
        return ExpandedDistribution(base, fn.batch_shape)
    return PyroIndependent(base, fn.reinterpreted_batch_ndims)


def own_masks(fn: Any) -> list[Tensor | bool]:
    """The masks that a distribution bears itself, each broadcastable to its values; [] for most."""
    masks: list[Tensor | bool] = []
    while isinstance(fn, _WRAPPERS):
        if isinstance(fn, MaskedDistribution):
            mask = fn._mask
            masks.append(mask[(...,) + (None,) * fn.event_dim] if isinstance(mask, Tensor) else mask)
        fn = fn.base_dist
    return [mask for mask in masks if mask is not True]


def factor(site: Site) -> Tensor:
    """What multiplies the log-density of each entry of a site's value in the log-weights: its scale, or 0."""
    event_dim = site["fn"].event_dim
    batch = torch.ones(site["fn"].batch_shape, dtype=site["value"].dtype, device=site["value"].device)
    whole = scale_and_mask(batch, scale_of(site), site["mask"])[(...,) + (None,) * event_dim]
    for mask in own_masks(site["fn"]):
        whole = whole * mask
    return whole


def refuse_partly_reparameterised(site: Site) -> None:
    """Raise PairError for a distribution whose draws have a pathwise gradient and a score function's too."""
    fn = site["fn"]
    while isinstance(fn, _WRAPPERS):
        fn = fn.base_dist
    own = getattr(type(fn), "score_parts", Distribution.score_parts)
    if own is not Distribution.score_parts and getattr(fn, "has_rsample", False):
        raise PairError(
            f"site {site['name']!r}: draws of {type(fn).__name__} are reparameterised in part, and a "
            "gradient needs the score function's for the rest, which only pyro.infer.Trace_ELBO adds: use "
            f"that, or another distribution in the guide"
        )


def reduced(density: Tensor, site: Site, num_particles: int) -> Tensor:
    """A site's log-density or divergence, masked, scaled and summed over inner plates, as (K, B) or (K,)."""
    scaled = _within_plates(_scaled(density, site), site, num_particles)
    if data_frame(site) is None:
        return _outside_data(scaled, num_particles)
    return over_inner_plates(scaled, num_particles)


def _scaled(density: Tensor, site: Site) -> Tensor:
    """A site's log-density or divergence with its mask and scale."""
    frame = data_frame(site)
    scaled = scale_and_mask(density, scale_of(site), site["mask"])
    if any(isinstance(site[name], Tensor) for name in ("scale", "mask")):
        _check_fits(scaled, site)
    if frame is not None and (
        not isinstance(scaled, Tensor) or scaled.dim() == 0 or scaled.shape[-1] != frame.size
    ):
        return torch.as_tensor(scaled).expand(site["fn"].batch_shape)
    return torch.as_tensor(scaled)


def in_slices(density: Tensor, site: Site, num_particles: int, depth: int, plain: bool = False) -> Tensor:
    """(K, *inner, B): a density of a site in the `data` plate, masked and scaled, by slice of inner plates.

    Args:
        density: of the site's batch shape.
        site: the site.
        num_particles: K.
        depth: how many dims the plates of the pair take, that of data among them; a dim that no plate of the
            site's has is 1.
        plain: leave mask and scale away.
    """
    values = density if plain else _scaled(density, site)
    values = values.expand(torch.broadcast_shapes(values.shape, site["fn"].batch_shape))
    values = _within_plates(values, site, num_particles)
    shape = values.shape[1:] if num_particles > 1 else values.shape
    return values.reshape(num_particles, *[1] * (depth - len(shape)), *shape)


def _within_plates(values: Tensor, site: Site, num_particles: int) -> Tensor:
    """Without the dims on the left of all plates, of finite sites that are summed over and have one value.

    Raises:
        PairError: for a longer one beside several particles, whose plate is the leftmost: each would get
            what belongs to the others.
    """
    dims = [-frame.dim for frame in site["cond_indep_stack"] if frame.dim is not None]
    while dims and values.dim() > max(dims) and values.shape[0] == 1:
        values = values.squeeze(0)
    if num_particles > 1 and dims and values.dim() > max(dims):
        raise PairError(
            f"site {site['name']!r}: {num_particles} particles have a dim of their own, number {max(dims)} "
            f"from the right, and the batch shape {list(site['fn'].batch_shape)} goes beyond it, as where a "
            "latent's dims of size 1, for inner plates, are transposed: see to it that the particles stay "
            "there, or draw them one by one, Pair(model, guide, vectorize=False)"
        )
    return values


def over_inner_plates(values: Tensor, num_particles: int) -> Tensor:
    """A site's term of its batch shape (K, *inner, B), or (*inner, B) for K = 1, summed to (K, B)."""
    if num_particles == 1:
        return (values.flatten(0, -2).sum(0) if values.dim() > 1 else values).unsqueeze(0)
    return values.flatten(1, -2).sum(1) if values.dim() > 2 else values


def _outside_data(values: Tensor, num_particles: int) -> Tensor:
    if num_particles == 1:
        return values.sum().unsqueeze(0)
    return values.flatten(1).sum(1) if values.dim() > 1 else values


def _check_fits(values: Tensor, site: Site) -> None:
    """Raise PairError for a scale or mask that is wider than the site:
    the sum would count the site several times.
    """
    batch_shape = site["fn"].batch_shape
    wider = len(values.shape) > len(batch_shape) or any(
        size not in (1, own) for size, own in zip(reversed(values.shape), reversed(batch_shape))
    )
    if wider:
        shapes = {
            name: list(site[name].shape) for name in ("scale", "mask") if isinstance(site[name], Tensor)
        }
        told = " and ".join(f"a {name} of shape {shape}" for name, shape in shapes.items())
        raise PairError(
            f"site {site['name']!r}: {told} does not fit the site's batch shape {list(batch_shape)}. Its "
            "last dim is the plate 'data'; a dim to the left of it must belong to a plate that is open "
            "around the site"
        )
