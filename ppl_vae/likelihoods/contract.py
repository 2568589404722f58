"""What every likelihood offers."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import pyro.distributions as dist
from torch import Tensor

from ppl_vae.nets.contracts import HasInitialBias


@runtime_checkable
class Likelihood(HasInitialBias, Protocol):
    """From a decoder's raw output to a Pyro distribution over the data;
    a user's own class needs these four alone.

    A model calls it. The other three prepare a training: the decoder is built with `raw_shape`, starts at
    `initial_bias`, and the data are held against `check`.
    """

    def __call__(self, raw: Tensor, /) -> dist.Distribution:
        """p(x | z), with `event_dim` event dims (3 for images `(C, H, W)`, 1 for vectors) and any batch dims.

        So data `(B, ...)` meet raw outputs `(K, B, ...)`. Its `log_prob` is in nats per datum, in float32 or
        wider, whatever the raw output is.
        """
        ...

    def raw_shape(self, shape: tuple[int, ...], /) -> tuple[int, ...]:
        """The event shape of the raw output for data of event shape `shape`.

        The parameters are stacked along the first event dim, the first parameter first: `(P * C, H, W)`.
        """
        ...

    def check(self, x: Tensor, /) -> None:
        """Raise a ValueError that names the values outside the support and the fix.

        The distributions raise the same error when Pyro's validation is on.
        """
        ...


class HasEventDim(Protocol):
    """A likelihood that says how many dims one datum has."""

    event_dim: int


def event_dim_of(likelihood: object) -> int | None:
    """How many dims one datum of a likelihood has; None where it does not say."""
    try:
        return cast(HasEventDim, likelihood).event_dim
    except AttributeError:
        return None
