"""Buckets: a continuous latent as one of 2^bits symbols."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal, biject_to

from ppl_vae.compression.element_rows import Layout
from ppl_vae.core.constraints import innermost_name
from ppl_vae.core.sites import PairError

_PROBES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Buckets:
    r"""The line of each element cut into 2^bits buckets of equal mass under a reference distribution.

    The reference is the prior where that is the same for all data and its quantiles are known; then each
    bucket has the prior probability 2^-bits. Else, as for the lower layers of a hierarchy and for numbers
    that come one after the other, it is fixed, a normal distribution with the moments that the site's draws
    have (of their logarithm or logit, where the support is no line), and the prior probability of a bucket
    is a difference of distribution functions, as the guide's always is. The decoder meets the bucket's
    middle by mass.

    Attributes:
        site: the name.
        edges: (2^bits - 1, elements) between the buckets.
        middles: (2^bits, elements).
        even: whether all buckets have the same prior probability.
    """

    site: str
    edges: Tensor
    middles: Tensor
    even: bool

    def __len__(self) -> int:
        return len(self.middles)

    def table(self, fn: Any, layout: Layout) -> np.ndarray:
        """(rows, elements, 2^bits) probabilities of the buckets under a distribution of elements."""
        below = fn.cdf(layout.of_one_row(self.edges))
        below = layout.rows_first(below.expand(len(self) - 1, *fn.batch_shape).movedim(0, -1)).double()
        whole = below.new_ones(())
        ends = [whole.new_zeros(()).expand(*below.shape[:-1], 1), below, whole.expand(*below.shape[:-1], 1)]
        found = torch.cat(ends, -1).diff(dim=-1).clamp_min(0)
        if not bool(found.isfinite().all()):
            raise PairError(
                f"site {self.site!r}: the distribution function of its {innermost_name(fn)} is NaN "
                "somewhere: look for NaN in the data and in the parameters"
            )
        return found.numpy()

    def part(self, chosen: Tensor) -> Buckets:
        """The buckets of some elements."""
        return replace(self, edges=self.edges[:, chosen], middles=self.middles[:, chosen])

    def take(self, symbols: np.ndarray, dtype: torch.dtype) -> Tensor:
        """(rows, elements) values of symbols."""
        index = torch.from_numpy(symbols).long()
        return self.middles.to(dtype).gather(0, index)


@dataclass(frozen=True)
class Reference:
    """What buckets are cut by: the prior itself, or a normal distribution with these moments.

    Attributes:
        bits: their number is 2^bits.
        loc, scale: (elements) of the unconstrained value; None for the prior.
    """

    bits: int
    loc: Tensor | None = None
    scale: Tensor | None = None

    @property
    def size(self) -> int:
        """How many buckets there are."""
        return 2**self.bits

    def buckets(self, fn: Any, layout: Layout, site: str) -> Buckets:
        """The buckets.

        Args:
            fn: the prior of elements of one datum.
            layout: of the site.
            site: the name.
        """
        size = self.size
        dtype = torch.get_default_dtype()
        edges, middles = (
            torch.arange(1, size, dtype=dtype) / size,
            (torch.arange(size, dtype=dtype) + 0.5) / size,
        )
        if self.loc is None or self.scale is None:
            cut = [
                layout.rows_first(fn.icdf(_spread(each, fn)).movedim(0, -1))[0].T for each in (edges, middles)
            ]
        else:
            normal = Normal(self.loc, self.scale, validate_args=False)
            to_support = biject_to(fn.support)
            cut = [to_support(normal.icdf(each[:, None])) for each in (edges, middles)]
        return Buckets(site, cut[0].contiguous(), cut[1].contiguous(), self.loc is None)

    def to_plain(self) -> dict[str, Any]:
        """As plain values."""
        if self.loc is None or self.scale is None:
            return {"bits": self.bits}
        raw = torch.stack([self.loc, self.scale]).double().numpy()
        return {"bits": self.bits, "moments": base64.b64encode(raw.tobytes()).decode()}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Reference:
        """The way back."""
        if "moments" not in plain:
            return cls(plain["bits"])
        raw = np.frombuffer(base64.b64decode(plain["moments"]), dtype=np.float64).reshape(2, -1)
        loc, scale = torch.from_numpy(raw.copy())
        return cls(plain["bits"], loc, scale)


def is_same_for_all(fn: Any, other: Any, layout: Layout) -> bool:
    """Whether priors of two runs, and of all rows in them, are one, and its quantiles are known."""
    if not _has(fn, "icdf"):
        return False
    probes = torch.tensor(_PROBES, dtype=torch.get_default_dtype())
    each = torch.cat([layout.rows_first(f.icdf(_spread(probes, f)).movedim(0, -1)) for f in (fn, other)])
    return bool((each == each[:1]).all())


def moments(draws: Tensor, fn: Any, bits: int) -> Reference:
    """The reference with the moments of draws (rows, elements), of a site with the prior `fn`."""
    free = biject_to(fn.support).inv(draws)
    scale = free.std(0, unbiased=False).clamp_min(1e-6)
    return Reference(bits, free.mean(0).double(), scale.double())


def refuse_without_functions(prior: Any, guide: Any, site: str) -> None:
    """Raise PairError where the prior or the guide has no distribution function."""
    for fn, role in ((prior, "prior"), (guide, "guide's distribution")):
        if not _has(fn, "cdf"):
            raise PairError(
                f"site {site!r}: its {role}, {innermost_name(fn)}, has no distribution function (cdf), by "
                "which a latent's buckets are weighed: Normal, LogNormal, Laplace, Exponential, Gamma, "
                "Gumbel, Uniform and mixtures of them have it"
            )


def _has(fn: Any, function: str) -> bool:
    try:
        getattr(fn, function)(torch.full((1, *[1] * len(fn.batch_shape)), 0.5))
    except NotImplementedError:
        return False
    return True


def _spread(points: Tensor, fn: Any) -> Tensor:
    return points.reshape(-1, *[1] * len(fn.batch_shape))
