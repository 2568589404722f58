"""Local: the posterior of each datum as free parameters of the guide's own family,
and back to a distribution.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta, Independent, TransformedDistribution
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites, site_is_subsample
from torch import Tensor, nn
from torch.distributions import (
    LowRankMultivariateNormal,
    MultivariateNormal,
    biject_to,
    transform_to,
)
from torch.distributions import TransformedDistribution as TorchTransformed
from torch.distributions.transforms import AffineTransform

from ppl_vae.core.sites import PairError, auxiliary_names, data_frame, is_enumerated, latent_names
from ppl_vae.transforms.conditioned import Conditioned

Rebuild = Callable[[Sequence[Tensor]], Any]


@dataclass(frozen=True)
class Local:
    r"""The guide's answer for each datum of a batch, and the family of distributions around it.

    A member of the family is named by displacements from the answer, tensors (B, ...) that are zero at
    the answer itself, in units in which a step of length one matters alike for all data:

    .. math:: \mathrm{loc} + \mathrm{scale}\, \delta_1, \qquad \mathrm{scale}\, e^{\delta_2} \qquad
        \text{(location and scale)}

    a normal with a Cholesky factor L has loc + L delta and L times a triangular factor; other
    constrained parameters move on the unconstrained scale; a flow's transforms move by the contexts
    that decide them, while the nets behind stay as they are.

    Attributes:
        site: the name of the latent site.
        shapes: of the displacements.
        rebuild: from displacements to the distribution.
        frame, indices: the `data` plate around the site, and its subsample where it has one.
        like: a tensor of the draws' dtype, on their device.
    """

    site: str
    shapes: tuple[torch.Size, ...]
    rebuild: Rebuild
    frame: Any
    indices: Tensor | None
    like: Tensor

    def zeros(self) -> tuple[Tensor, ...]:
        """The displacements of the guide's answer, new leaves that require gradients."""
        return tuple(self.like.new_zeros(shape).requires_grad_() for shape in self.shapes)

    def plate(self) -> Any:
        """The guide's `data` plate again, with the same subsample."""
        size = self.frame.full_size or self.frame.size
        return pyro.plate(self.frame.name, size, subsample=self.indices, dim=-1)


def read_local(guide: nn.Module, batch: Sequence[Any]) -> Local:
    """Run a guide, apart from all effect handlers around, and free the parameters of its one latent site.

    What is constant in the guide (carries no gradient) stays constant, unless all of it does.

    Raises:
        PairError: unless the guide has exactly one latent site, inside the `data` plate, without a mask or
            a scale of its own, reparameterised.
    """
    with poutine.block(), torch.enable_grad(), _Undrawn():
        trace = prune_subsample_sites(whole := poutine.trace(guide).get_trace(*batch))
    if auxiliary := auxiliary_names(trace):
        raise PairError(
            f"the guide makes its latents of the auxiliary sites {auxiliary}, so that no datum has "
            "parameters of its own that could be moved: use a guide with a density, such as guides.MeanField "
            "or a flow"
        )
    names = latent_names(trace)
    if len(names) != 1:
        raise PairError(
            f"the guide's latent sites are {names}, but its local parameters are only known for a guide with "
            f"one: where one site depends on another's draw, no datum has parameters of its own"
        )
    site = trace.nodes[names[0]]
    frame = data_frame(site)
    plain = frame is not None and site["mask"] is None and len(site["cond_indep_stack"]) == 1
    if frame is None or not plain or is_enumerated(site) or not site["fn"].has_rsample:
        raise PairError(
            f"site {names[0]!r}: its local parameters can only be moved where it stands in the plate "
            f"of data and no other, has no mask, and is drawn with a pathwise gradient; use "
            f"guides.MeanField or another reparameterised guide"
        )
    fn = site["fn"]
    moved = [tensor for tensor in _tensors(fn) if tensor.requires_grad] or list(_tensors(fn))
    shapes: list[torch.Size] = []
    rebuild = _family(fn, {id(tensor) for tensor in moved}, shapes, {})
    subsampled = frame.full_size not in (None, frame.size)
    indices = whole.nodes[frame.name]["value"] if subsampled else None
    return Local(names[0], tuple(shapes), rebuild, frame, indices, site["value"].detach())


class _Undrawn(Messenger):
    """Zeros instead of draws, so that no random numbers are used up where only the distribution is asked."""

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if msg["is_observed"] or site_is_subsample(msg) or not getattr(fn, "has_rsample", False):
            return
        like = _tensors(fn)[0]
        msg["value"], msg["done"] = like.new_zeros(fn.batch_shape + fn.event_shape), True


def _leaf_parameters(fn: Any) -> dict[str, Tensor]:
    if isinstance(fn, MultivariateNormal):
        return {"loc": fn.loc, "scale_tril": fn.scale_tril}
    try:
        names = list(fn.arg_constraints)
    except NotImplementedError:
        names = []
    found = {
        name: getattr(fn, name) for name in names if name in fn.__dict__ or name not in ("logits", "probs")
    }
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise PairError(
            f"{type(fn).__name__}: its parameters are unknown, since it names none in arg_constraints; use "
            f"one of the guides in ppl_vae.guides, or a distribution of torch's"
        )
    return found


def _is_transformed(fn: Any) -> bool:
    # not the subclasses, such as LogNormal, which have parameters of their own
    return type(fn) in (TransformedDistribution, TorchTransformed)


def _tensors(fn: Any) -> list[Tensor]:
    if isinstance(fn, Independent):
        return _tensors(fn.base_dist)
    if _is_transformed(fn):
        found = _tensors(fn.base_dist)
        for transform in fn.transforms:
            if isinstance(transform, Conditioned):
                found.append(transform.context)
            elif isinstance(transform, AffineTransform):
                found += [part for part in (transform.loc, transform.scale) if isinstance(part, Tensor)]
        return found
    return [_source(fn, name, value) for name, value in _leaf_parameters(fn).items()]


def _source(fn: Any, name: str, value: Tensor) -> Tensor:
    # properties such as scale_tril make a new tensor at each look: keep the first one with the object
    kept: dict[str, Tensor] = fn.__dict__.setdefault("_local_parameters", {})
    return kept.setdefault(name, value)


def _family(fn: Any, moved: set[int], shapes: list[torch.Size], contexts: dict[int, int]) -> Rebuild:
    """From displacements, whose shapes are appended to `shapes`, to a distribution like fn."""
    if isinstance(fn, Independent):
        inner = _family(fn.base_dist, moved, shapes, contexts)
        return lambda given: Independent(inner(given), fn.reinterpreted_batch_ndims)
    if _is_transformed(fn):
        base = _family(fn.base_dist, moved, shapes, contexts)
        parts = [_transform(transform, moved, shapes, contexts) for transform in fn.transforms]
        return lambda given: TransformedDistribution(base(given), [part(given) for part in parts])
    return _leaf(fn, moved, shapes)


def _transform(
    transform: Any, moved: set[int], shapes: list[torch.Size], contexts: dict[int, int]
) -> Rebuild:
    if isinstance(transform, Conditioned) and id(transform.context) in moved:
        context = transform.context
        if id(context) not in contexts:  # a context that several transforms share stays shared
            contexts[id(context)] = _another(context, shapes)
        index = contexts[id(context)]
        return lambda given: Conditioned(transform.make, context + given[index])
    if isinstance(transform, AffineTransform):
        loc, scale = torch.as_tensor(transform.loc), torch.as_tensor(transform.scale)
        first = _another(loc, shapes) if id(loc) in moved else None
        second = _another(scale, shapes) if id(scale) in moved else None

        def affine(given: Sequence[Tensor]) -> AffineTransform:
            return AffineTransform(
                loc if first is None else loc + scale * given[first],
                scale if second is None else scale * given[second].exp(),
                event_dim=transform.event_dim,
                cache_size=1,
            )

        return affine
    if isinstance(transform, Conditioned):
        return lambda given: Conditioned(transform.make, transform.context)
    return lambda given: transform


def _leaf(fn: Any, moved: set[int], shapes: list[torch.Size]) -> Rebuild:
    if isinstance(fn, Delta):
        raise PairError(
            f"{type(fn).__name__}: all of its mass is in one point, so that there is no family around it; "
            "use a guide with a density, such as guides.MeanField"
        )
    start = {name: _source(fn, name, value) for name, value in _leaf_parameters(fn).items()}
    index = {name: _another(value, shapes) for name, value in start.items() if id(value) in moved}
    others = _other_arguments(fn)

    def rebuild(given: Sequence[Tensor]) -> Any:
        values = dict(start)
        for name, number in index.items():
            values[name] = _displaced(fn, name, start, given[number])
        try:
            return type(fn)(**values, **others)
        except TypeError as error:
            name = type(fn).__name__
            raise PairError(
                f"{name} cannot be made anew of its parameters {list(start)}: {error}; keep each argument of "
                f"{name} as the attribute of its name"
            ) from error

    return rebuild


def _other_arguments(fn: Any) -> dict[str, Any]:
    """What a distribution was made with besides its parameters, such as a temperature."""
    names = inspect.signature(type(fn).__init__).parameters.keys() - {"validate_args", *fn.arg_constraints}
    return {name: vars(fn)[name] for name in names if name in vars(fn)}


def _displaced(fn: Any, name: str, start: dict[str, Tensor], by: Tensor) -> Tensor:
    value = start[name]
    if isinstance(fn, MultivariateNormal):
        if name == "loc":
            return value + (start["scale_tril"] @ by.unsqueeze(-1)).squeeze(-1)
        return value @ transform_to(fn.arg_constraints["scale_tril"])(by)
    if isinstance(fn, LowRankMultivariateNormal):
        if name == "cov_diag":
            return value * by.exp()
        root = start["cov_diag"].sqrt()
        return value + (root if name == "loc" else root.unsqueeze(-1)) * by
    if name == "loc" and "scale" in start:
        return value + start["scale"] * by
    if name == "scale":
        return value * by.exp()
    bijection = biject_to(fn.arg_constraints[name])
    return bijection(bijection.inv(value) + by)


def _another(value: Tensor, shapes: list[torch.Size]) -> int:
    shapes.append(value.shape)
    return len(shapes) - 1


def push(fn: Any, noise: Tensor) -> Tensor:
    """The draws that a distribution makes of given standard normal noise, (..., *batch, d).

    Raises:
        PairError: for a distribution that is neither normal nor has an inverse distribution function.
    """
    if isinstance(fn, Independent):
        return push(fn.base_dist, noise)
    if isinstance(fn, MultivariateNormal | LowRankMultivariateNormal):
        return fn.loc + torch.einsum("...n,...mn->...m", noise, fn.scale_tril)
    if isinstance(fn, TorchTransformed):
        draw = push(fn.base_dist, noise)
        for transform in fn.transforms:
            draw = transform(draw)
        return draw
    if isinstance(fn, torch.distributions.Normal):
        return fn.loc + fn.scale * noise
    try:
        share = torch.special.ndtr(noise).clamp(*_INSIDE)
        draw = fn.icdf(share)
    except NotImplementedError:
        raise PairError(
            f"{type(fn).__name__} has no inverse distribution function, so it cannot be drawn from given "
            f"noise: use a normal guide or a flow, or Laplace, Gumbel, Exponential or LogNormal"
        ) from None
    return draw


_INSIDE = (1e-6, 1 - 1e-6)
