"""Alphabets: all values of discrete elements, their symbols, and tables of their probabilities."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import OneHotCategorical

from ppl_vae.compression.element_rows import Layout
from ppl_vae.core.constraints import innermost_name
from ppl_vae.core.sites import PairError

MOST_VALUES = 2**16
"""An element with more values than this, which leave the coder's 24 bits too few, is refused."""


@dataclass(frozen=True)
class Alphabet:
    """The values that each element of a site may have, in the order of their symbols 0, 1, 2, ...

    Attributes:
        site: the name.
        values: (V, *element).
        levels: whether they are evenly spaced numbers, which data hold as they happen to be rounded.
    """

    site: str
    values: Tensor
    levels: bool = False

    even = False

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def table(self, fn: Any, layout: Layout) -> np.ndarray:
        """(rows, elements, V) probabilities of elements of the distribution `fn`."""
        values = self.values.to(torch.get_default_dtype())
        values = values.reshape(len(self), *[1] * len(fn.batch_shape), *layout.element)
        log_p = fn.log_prob(values)
        if not layout.element:  # an element may have fewer values than others, as counts out of n
            log_p = log_p.masked_fill(~fn.support.check(values).expand(log_p.shape), -torch.inf)
        # of these values alone: far out in a family without end all of them may be as good as impossible
        log_p = layout.rows_first(log_p.expand(len(self), *fn.batch_shape).movedim(0, -1))
        found = log_p.double().softmax(-1)
        if bool(found.isnan().any()):
            raise PairError(
                f"site {self.site!r}: the probabilities of its {innermost_name(fn)} have NaN among them: "
                "look for NaN in the data and in the parameters"
            )
        return found.numpy()

    def part(self, chosen: Tensor) -> Alphabet:
        """The values of some elements: those of all."""
        return self

    def symbols(self, x: Tensor) -> np.ndarray:
        """(rows, elements) symbols of values (rows, elements, *element).

        Raises:
            PairError: for a value that is none of the alphabet's, bit for bit.
        """
        if x.dim() > 2:
            found = x.argmax(-1)
        elif self.levels:
            found = (x.double() * (len(self) - 1)).round().clamp(0, len(self) - 1).long()
        else:
            found = (x.double() - self.values[0].double()).clamp(0, len(self) - 1).nan_to_num(0.0).long()
        again = self.values.to(x.dtype)[found]
        different = as_bits(again) != as_bits(x)
        if bool(different.any()):
            shown = list(dict.fromkeys(f"{each:.6g}" for each in x[different].flatten()[:1000].tolist()))[:3]
            raise PairError(
                f"site {self.site!r}: the data hold {', '.join(shown)}, which this site's distribution does "
                "not give bit for bit, so they would not come back: round them to its values (x + 0.0 makes "
                "0 of a negative zero)"
            )
        return found.numpy().astype(np.int32)

    def take(self, symbols: np.ndarray, dtype: torch.dtype) -> Tensor:
        """The values of symbols."""
        return self.values.to(dtype)[torch.from_numpy(symbols).long()]

    def to_plain(self) -> dict[str, Any]:
        """As plain values."""
        plain: dict[str, Any] = {"size": len(self), "one_hot": self.values.dim() > 1}
        if self.levels:
            raw = base64.b64encode(self.values.numpy().tobytes()).decode()
            return {**plain, "levels": raw, "dtype": str(self.values.dtype).removeprefix("torch.")}
        return {**plain, "first": 0 if plain["one_hot"] else int(self.values[0])}

    @classmethod
    def of_plain(cls, site: str, plain: Mapping[str, Any]) -> Alphabet:
        """The way back."""
        if "levels" in plain:
            raw = np.frombuffer(base64.b64decode(plain["levels"]), dtype=plain["dtype"])
            return cls(site, torch.from_numpy(raw.copy()), levels=True)
        if plain["one_hot"]:
            return cls(site, torch.eye(plain["size"]))
        return cls(site, torch.arange(plain["first"], plain["first"] + plain["size"]))


def alphabet_of(fn: Any, x: Tensor | None, site: str) -> Alphabet | None:
    """The alphabet of elements of the distribution `fn`; None where they are continuous, or without end.

    Args:
        fn: the distribution of elements.
        x: all data, (rows, elements), whose largest count ends an alphabet that has no end; None for latents.
        site: the name.

    Raises:
        PairError: where there are too many values.
    """
    if isinstance(fn, OneHotCategorical):
        return Alphabet(site, torch.eye(fn.event_shape[-1]))
    support = fn.support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if not support.is_discrete:
        return None
    if hasattr(support, "levels"):
        return Alphabet(site, _as_in_data(support.levels, x), levels=True)
    low, high = (getattr(support, bound, None) for bound in ("lower_bound", "upper_bound"))
    if low is None:
        low, high = 0, 1  # boolean
        if not bool(support.check(torch.tensor([0.0, 1.0])).all()):
            return None
    first = int(torch.as_tensor(low).min())
    if high is None and x is None:
        return None
    if high is not None:
        last = int(torch.as_tensor(high).max())
    else:
        assert x is not None
        seen = x[x.isfinite()] if x.is_floating_point() else x
        last = max(first, int(seen.max())) if seen.numel() else first
    if last - first >= MOST_VALUES:
        raise PairError(
            f"site {site!r}: its {innermost_name(fn)} has values up to {last:,}, and an alphabet ends at "
            f"{MOST_VALUES:,}: scale or cap the counts"
        )
    return Alphabet(site, torch.arange(first, last + 1))


def _as_in_data(levels: int, x: Tensor | None) -> Tensor:
    """The levels as the data hold them: k / 255 and k * (1 / 255) differ in their last bits."""
    values = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    if x is None or not x.is_floating_point():
        return values
    values = values.to(x.dtype)
    seen = x[x.isfinite()]
    index = (seen.double() * (levels - 1)).round().clamp(0, levels - 1).long()
    values[index] = seen
    return values


def as_bits(x: Tensor) -> Tensor:
    """Floating point as whole numbers that are equal where all bits are."""
    sizes = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return x.contiguous().view(sizes[x.element_size()]) if x.is_floating_point() else x
