"""Elements: the single pixels, columns and steps of a site whose distribution factorises over them.

An element is the smallest part of a value that has a factor of its own in the density: one number, as a
pixel, a column of a table or a step of a series; or one one-hot vector, which is a single choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from pyro.distributions import TransformedDistribution as PyroTransformed
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    Independent,
    IndependentTransform,
    MixtureSameFamily,
    OneHotCategorical,
    Transform,
    TransformedDistribution,
)
from torch.distributions.transforms import _InverseTransform

from ppl_vae.core.observed import Observed
from ppl_vae.core.sites import PairError
from ppl_vae.core.stacked import Stacked

_WAY_OUT = (
    "Give the site a likelihood whose elements are independent given the latents, such as "
    "dist.Normal(loc, scale).to_event(1) or one of ppl_vae.likelihoods. A distribution class of your own "
    "that factorises says so by a method elements(), which gives the distribution of the single ones"
)


@runtime_checkable
class HasElements(Protocol):
    """A distribution over an event that gives the distribution of the event's elements itself."""

    def elements(self) -> Any:
        """A distribution with the event's dims among those of its batch, and the same values."""
        ...


@runtime_checkable
class OfSeveralFamilies(Protocol):
    """Elements of different families: `parts`, each the distribution of some columns of the last dim."""

    parts: Sequence[Any]

    def split(self, value: Tensor) -> Sequence[Tensor]:
        """The columns of each part, `(..., n)`."""
        ...

    def join(self, values: Sequence[Tensor]) -> Tensor:
        """The way back."""
        ...


class _Whole(Exception):
    """The distribution of an event has no elements; the text says why."""


def elements(fn: Any, site: str, way_out: str = _WAY_OUT) -> Any:
    r"""The distribution of the single elements of a site's values.

    .. math:: \log p(x) = \sum_d \log p_d(x_d)

    Where `fn` has values of shape (\*batch, \*event), the result has the same, with the batch shape (\*batch,
    \*event) and no event dim for single numbers, and (\*batch, \*event[:-1]) and one event dim for one-hot
    vectors. `to_event`, `mask` and `expand` are undone, and transforms of single numbers stay around the
    elements; a mask of `fn`'s own stays, element by element.

    Args:
        fn: the distribution of the site.
        site: its name, for the refusal.
        way_out: what the refusal says in the end.

    Raises:
        PairError: where the density does not factorise, naming the site, the distribution and the way out.

    >>> import pyro.distributions as dist
    >>> single = elements(dist.Normal(torch.zeros(4, 3), 1.0).to_event(1), "x")
    >>> single.batch_shape, single.event_shape
    (torch.Size([4, 3]), torch.Size([]))
    """
    try:
        single = _elements(fn)
    except _Whole as why:
        raise PairError(f"site {site!r} does not factorise into elements: {why}. {way_out}") from None
    if single.batch_shape + single.event_shape != fn.batch_shape + fn.event_shape:
        raise PairError(
            f"site {site!r}: the elements of its {type(fn).__name__} have the shape "
            f"{list(single.batch_shape + single.event_shape)}, and its values "
            f"{list(fn.batch_shape + fn.event_shape)}: they must be the same"
        )
    return single


def masked(fn: Any, mask: Tensor | bool, site: str, of_values: bool = False) -> Any:
    """A site's distribution of which only some elements are observed: the others are left out.

    The event shape stays. `log_prob` sums over what is observed, which is the exact marginal density, since
    the elements are independent given the latents. Values that are not observed may be anything, NaN too:
    they reach neither the density nor a gradient. Draws are complete, and so is the mean.

    Args:
        fn: the distribution of the site.
        mask: booleans, True where observed: of the elements' batch shape (see `elements`), or broadcastable
            to it with at least the event's dims, so that `(D,)` is one pattern for all data and `(B, 1)` a
            choice of data. A mask of one-hot vectors may have their last dim too, all alike in it.
        site: its name, for the refusals.
        of_values: whether the mask is laid out as the values are, one-hot vectors with their last dim, and
            perhaps without the particles.

    Raises:
        PairError: where the density does not factorise, or the mask does not fit, naming the site.

    >>> import pyro.distributions as dist
    >>> p = masked(dist.Normal(torch.zeros(3), 1.0).to_event(1), torch.tensor([True, False, True]), "x")
    >>> p.log_prob(torch.tensor([0.0, float("nan"), 0.0]))
    tensor(-1.8379)
    """
    single = elements(fn, site)
    seen = mask if isinstance(mask, bool) else _fitting(mask, single, fn.event_dim, site, of_values)
    while isinstance(single, MaskedDistribution):
        seen = _both(seen, single._mask)
        single = single.base_dist
    return Observed(single, seen, site).to_event(fn.event_dim - single.event_dim)


def _elements(fn: Any) -> Any:
    if isinstance(fn, MaskedDistribution):
        single, mask = _elements(fn.base_dist), fn._mask
        if isinstance(mask, Tensor):
            mask = mask[(...,) + (None,) * (fn.event_dim - single.event_dim)]
        return Observed(single, mask, fn.site) if isinstance(fn, Observed) else single.mask(mask)
    if isinstance(fn, ExpandedDistribution):
        single = _elements(fn.base_dist)
        return single.expand(fn.batch_shape + fn.event_shape[: fn.event_dim - single.event_dim])
    if isinstance(fn, HasElements):
        return fn.elements()
    if isinstance(fn, Stacked):
        parts = [_elements(part) for part in fn.parts]
        return Stacked(parts, fn.plate_dim - fn.event_dim + parts[0].event_dim)
    if isinstance(fn, Independent):
        return _elements(fn.base_dist)
    if not fn.event_shape or isinstance(fn, OneHotCategorical):
        return fn
    if isinstance(fn, TransformedDistribution):
        single = [(t, _of_numbers(t, fn.event_shape)) for t in fn.transforms]
        if mixing := [type(t).__name__ for t, alone in single if alone is None]:
            names = ", ".join(dict.fromkeys(mixing))
            raise _Whole(f"{names} of its {type(fn).__name__} makes each number from several")
        return PyroTransformed(_elements(fn.base_dist), [alone for _, alone in single if alone is not None])
    shape = list(fn.event_shape)
    if isinstance(fn, MixtureSameFamily):
        raise _Whole(f"its MixtureSameFamily draws one component for a whole event of shape {shape}")
    raise _Whole(f"its {type(fn).__name__} is one density of a whole event of shape {shape}")


def _of_numbers(transform: Transform, event: torch.Size) -> Transform | None:
    """The same map as one of single numbers, whatever event it was declared for; None where it mixes them."""
    if not transform.domain.event_dim and not transform.codomain.event_dim:
        return transform
    if isinstance(transform, IndependentTransform):
        return _of_numbers(transform.base_transform, event)
    if isinstance(transform, AffineTransform):
        scale, depth = transform.scale, transform.event_dim
        # torch counts a scale that is broadcast over the event once, and not for every number
        known = not isinstance(scale, Tensor) or scale.shape[scale.dim() - depth :] == event[-depth:]
        return AffineTransform(transform.loc, scale) if known else None
    if isinstance(transform, ComposeTransform):
        parts = [_of_numbers(part, event) for part in transform.parts]
        single = [part for part in parts if part is not None]
        return ComposeTransform(single) if len(single) == len(parts) else None
    if isinstance(transform, _InverseTransform):
        inner = _of_numbers(transform.inv, event)
        return None if inner is None else inner.inv
    return None


def _fitting(mask: Any, single: Any, event_dim: int, site: str, of_values: bool) -> Tensor:
    """A mask that is broadcastable to the elements."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        what = f"a Tensor of {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise PairError(
            f"site {site!r}: a mask is a Tensor of booleans, True where observed, and this is {what}: give "
            "mask.bool() where it has 0 and 1"
        )
    wanted = single.batch_shape
    if single.event_dim and (of_values or mask.shape == wanted + single.event_shape):
        whole = mask.flatten(-single.event_dim)
        if bool((whole.any(-1) != whole.all(-1)).any()):
            raise PairError(
                f"site {site!r}: a one-hot vector is one choice, observed as a whole or not, and the mask "
                f"parts some: give one of shape {list(wanted)}"
            )
        mask = whole.all(-1)
    wide = mask.dim() < event_dim - single.event_dim or mask.dim() > len(wanted)
    if wide or any(size not in (1, own) for size, own in zip(reversed(mask.shape), reversed(wanted))):
        raise PairError(
            f"site {site!r}: a mask of shape {list(mask.shape)} does not fit its elements, of shape "
            f"{list(wanted)}: give one of that shape, or with 1 for dims in which it is the same; "
            "whole data are chosen by (B, 1, ...)"
        )
    return mask


def _both(one: Any, two: Any) -> Any:
    if isinstance(one, bool):
        return two if one else False
    if isinstance(two, bool):
        return one if two else False
    return one & two
