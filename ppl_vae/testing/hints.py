"""Hints before a bad start: data of another scale than the likelihood or the guide's first layer expects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.subsampling import whole_plate

FAR = 30.0
"""Standard deviations from the likelihood's mean, or sizes of what a net is given, that are worth a word."""
WIDE = 1 / FAR
"""The spread of the data in standard deviations of the likelihood below which there is little to explain."""

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@runtime_checkable
class HasParts(Protocol):
    """A distribution over columns of different kinds, each part with its own."""

    parts: Sequence[Any]
    layout: Any


def starting_hints(pair: Pair, batch: Sequence[Tensor], particles: Particles) -> tuple[str, ...]:
    """A line on each thing by which a training would start badly, with what helps; none for most pairs.

    Args:
        batch: some data.
        particles: of a run of the pair on them.
    """
    hints: list[str] = []
    for name, term in particles.log_likelihood.items():
        try:
            hints += _of_site(particles.model_trace, name, float(term.detach().mean()))
        except Exception:
            continue  # a distribution that does not tell its mean: a hint must not be what fails
    return (*hints, *_of_first_layer(pair, batch))


def _of_site(trace: Trace, name: str, log_likelihood: float) -> Iterator[str]:
    site = trace.nodes[name]
    for fn, value in _parts(site["fn"], site["value"]):
        reach = _reach(fn)
        if reach is None or not value.is_floating_point():
            continue
        variance, size = fn.variance, fn.event_shape.numel()
        alike = torch.broadcast_tensors(value, fn.mean.detach(), variance.detach().sqrt())
        x, centre, scale = (each.reshape(-1, size).double() for each in alike)
        misfit = _rms((x - centre) / scale)
        # columns have units of their own, the pixels of an image have one
        worst = float(misfit.max() if len(fn.event_shape) == 1 else misfit.square().mean().sqrt())
        now, learn = "at the start", ""
        if not variance.requires_grad:
            now, learn = "fixed at", "learn the scale, likelihoods.Gaussian(scale='learned'), or "
        if worst > FAR:
            yield (
                f"site {name!r}: the data lie {worst:,.0f} standard deviations of their likelihood from its "
                f"mean (log-likelihood at the start: {log_likelihood:,.3g} nats a datum): {learn}standardise "
                "them, by data.table(frame) or (x - mean) / deviation, or start at their mean, "
                "nets.centre_output"
            )
            return
        spread = float(_rms((x - x.nanmean(0)) / scale).square().mean().sqrt())
        if reach == "real" and 0 < spread < WIDE:
            yield (
                f"site {name!r}: the deviation of the likelihood is {now} {1 / spread:,.0f} times that of "
                "the data: the latents have next to nothing to explain, and the KL term may push them to the "
                f"prior: {learn}standardise the data, (x - mean) / deviation"
            )


def _parts(fn: Any, value: Tensor) -> Iterator[tuple[Any, Tensor]]:
    if isinstance(fn, HasParts):
        yield from zip(fn.parts, fn.layout.split(value))
    else:
        yield fn, value


def _reach(fn: Any) -> str | None:
    """Whether values without an upper end are "real" or "positive"; None for others: counts, fractions."""
    try:
        support: Any = fn.support
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        if support.is_discrete or not bool(support.check(torch.tensor(1e3)).all()):
            return None
        return "real" if bool(support.check(torch.tensor(-1e3)).all()) else "positive"
    except (NotImplementedError, RuntimeError, AttributeError, IndexError, TypeError):
        return None  # one that does not say, or whose values are vectors that hang together


def _rms(values: Tensor) -> Tensor:
    """The root of the mean square over the rows, of what is not missing; 0 where nothing is seen."""
    return values.square().nanmean(0).sqrt().nan_to_num(0.0, posinf=0.0)


def _of_first_layer(pair: Pair, batch: Sequence[Tensor]) -> Iterator[str]:
    """What the first layer of the guide's nets is given, measured as it is called."""
    seen: list[tuple[str, float]] = []

    def hook(name: str) -> Any:
        def note(_: nn.Module, given: tuple[Any, ...]) -> None:
            if not seen and given and isinstance(given[0], Tensor) and given[0].is_floating_point():
                seen.append((name, float(given[0].detach().double().square().mean().sqrt())))

        return note

    layers = [(name, each) for name, each in pair.guide.named_modules() if isinstance(each, _LAYERS)]
    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers]
    try:
        with torch.no_grad(), whole_plate(len(batch[0])):
            pair.guide(*batch)
    finally:
        for handle in handles:
            handle.remove()
    if seen and seen[0][1] > FAR:
        name, size = seen[0]
        yield (
            f"the guide's first layer, {name}, is given values of size {size:,.0f}, and its weights are made "
            "for values around 1: standardise the data, by data.table(frame) or (x - mean) / deviation; of "
            "counts give the encoder log(1 + x), as nets.ColumnEncoder does"
        )
