"""Finite distributions: the values that they have, all of them."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import torch
from pyro.distributions.torch import Independent as PyroIndependent
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import Independent

from ppl_vae.core.sites import is_summed

MOST_VALUES = 4096
"""A site with more values than this (more than 12 bits) is not summed over."""


def values_of(fn: Any) -> Tensor | None:
    """All values of a finite distribution, (E, *1 for each batch dim, *event);
    None where they are too many.
    """
    if getattr(fn, "has_enumerate_support", False):
        with suppress(NotImplementedError):  # such as a Binomial whose counts differ
            values: Tensor = fn.enumerate_support(expand=False)
            return values
        return None
    base: Any = getattr(fn, "base_dist", None)
    if not isinstance(fn, Independent) or not getattr(base, "has_enumerate_support", False):
        return None
    single = base.enumerate_support(expand=False)  # of one entry of the event, which may be a one-hot vector
    single = single.reshape(len(single), *base.event_shape)
    size = fn.event_shape[: fn.reinterpreted_batch_ndims].numel()
    if size * math.log(len(single)) > math.log(MOST_VALUES):
        return None
    grid = torch.cartesian_prod(*[torch.arange(len(single), device=single.device)] * size)
    return single[grid.reshape(-1, size)].reshape(-1, *[1] * len(fn.batch_shape), *fn.event_shape)


class FiniteEvent(PyroIndependent):
    """A finite distribution over events of a few entries, all of whose values can be listed."""

    has_enumerate_support = True

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = values_of(PyroIndependent(self.base_dist, self.reinterpreted_batch_ndims))
        assert values is not None
        return values.expand(-1, *self.batch_shape, *self.event_shape) if expand else values


def can_be_summed(fn: Any) -> bool:
    """Whether a distribution has a list of values, and no more than `MOST_VALUES`."""
    values = values_of(fn)
    return values is not None and len(values) <= MOST_VALUES


def num_values(trace: Trace) -> dict[str, int]:
    """How many values each site has that a trace of the model sums over."""
    found = {}
    for name, site in trace.nodes.items():
        if is_summed(site):
            values = values_of(site["fn"])
            assert values is not None
            found[name] = len(values)
    return found


def other_values(fn: Any, value: Tensor) -> Tensor:
    """Other values of a distribution in each entry: of the finite ones another, else a new draw."""
    if not can_be_summed(fn):
        drawn: Tensor = fn.sample()
        return drawn
    values = values_of(fn)
    assert values is not None
    event_dim = fn.event_dim
    table = values.reshape(len(values), *fn.event_shape)
    same = table == value.unsqueeze(-1 - event_dim)
    number = (same.flatten(-event_dim).all(-1) if event_dim else same).long().argmax(-1)
    shift = torch.randint(1, max(len(values), 2), number.shape, device=number.device)
    return table[(number + shift) % len(values)]
