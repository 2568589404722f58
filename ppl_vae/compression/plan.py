"""The plan of a code: which sites there are, in which order, and which symbols each of them has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.compression.alphabet import Alphabet
from ppl_vae.compression.buckets import Reference
from ppl_vae.compression.element_rows import Layout
from ppl_vae.core.elements import OfSeveralFamilies


@dataclass(frozen=True)
class DataSite:
    """An observed site: columns of one family or more, and the argument whose data they are."""

    name: str
    argument: int
    layout: Layout
    parts: tuple[tuple[Layout, Alphabet], ...]

    @property
    def num_elements(self) -> int:
        """Of one datum."""
        return self.layout.num_elements

    def values_in(self, batch: Sequence[Tensor]) -> Tensor:
        """The site's values in a batch, with the type that the data have."""
        x = batch[self.argument]
        return self.layout.as_in_site(x.reshape(len(x), self.num_elements, *self.layout.element))

    def symbols(self, fn: Any, x: Tensor, gaps: np.ndarray | None) -> list[np.ndarray]:
        """(rows, elements) symbols of each part of the site's values; -1 where they are missing.

        Args:
            fn: the distribution of elements.
            x: the values, laid out as in the site.
            gaps: (rows, elements), True where they are missing.
        """
        found = []
        for (layout, alphabet), values, gap in zip(
            self.parts, split(fn, x), self.part_gaps(fn, gaps), strict=True
        ):
            rows = layout.rows_first(values)
            if gap is None:
                found.append(alphabet.symbols(rows))
                continue
            filled = rows.masked_fill(torch.from_numpy(gap), float(alphabet.values[0]))
            found.append(np.where(gap, -1, alphabet.symbols(filled)).astype(np.int32))
        return found

    def values(self, fn: Any, symbols: Sequence[np.ndarray], like: Tensor) -> Tensor:
        """The way back, with the type of `like`."""
        columns = []
        for (layout, alphabet), each in zip(self.parts, symbols):
            taken = alphabet.take(np.maximum(each, 0), like.dtype)
            if bool((each < 0).any()):
                taken = taken.masked_fill(torch.from_numpy(each < 0), torch.nan)
            columns.append(layout.as_in_site(taken))
        return fn.join(columns) if isinstance(fn, OfSeveralFamilies) else columns[0]

    def tables(self, fn: Any) -> list[np.ndarray]:
        """(rows, elements, values) probabilities of each part."""
        return [alphabet.table(part, layout) for (layout, alphabet), part in zip(self.parts, families(fn))]

    def part_gaps(self, fn: Any, gaps: np.ndarray | None) -> list[np.ndarray | None]:
        """The gaps of each part."""
        if gaps is None:
            return [None] * len(self.parts)
        laid = self.layout.as_in_site(torch.from_numpy(gaps))
        return [layout.rows_first(each).numpy() for (layout, _), each in zip(self.parts, split(fn, laid))]

    def to_plain(self) -> dict[str, Any]:
        """As plain values."""
        parts = [{"layout": list(map(list, layout)), **book.to_plain()} for layout, book in self.parts]
        return {
            "name": self.name,
            "argument": self.argument,
            "layout": list(map(list, self.layout)),
            "parts": parts,
        }

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> DataSite:
        """The way back."""
        name = plain["name"]
        parts = [(_layout(each["layout"]), Alphabet.of_plain(name, each)) for each in plain["parts"]]
        return cls(name, plain["argument"], _layout(plain["layout"]), tuple(parts))


@dataclass(frozen=True)
class LatentSite:
    """A latent site: its values, or how its buckets are cut."""

    name: str
    layout: Layout
    kind: Alphabet | Reference

    def to_plain(self) -> dict[str, Any]:
        """As plain values."""
        return {"name": self.name, "layout": list(map(list, self.layout)), **self.kind.to_plain()}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> LatentSite:
        """The way back."""
        name = plain["name"]
        kind = Reference.of_plain(plain) if "bits" in plain else Alphabet.of_plain(name, plain)
        return cls(name, _layout(plain["layout"]), kind)


@dataclass(frozen=True)
class Plan:
    """What encoder and decoder agree on.

    Attributes:
        data: the observed sites.
        latents: the latent sites.
        model_order, guide_order: the names of the sites as each program makes them, the model's with the
            observed ones.
        bit_swap: whether pushes and pops alternate along a chain.
        batch_size: data at a time.
        num_samples: K, the guide's draws for each datum.
        dtype: the type of the programs' real numbers.
    """

    data: tuple[DataSite, ...]
    latents: tuple[LatentSite, ...]
    model_order: tuple[str, ...]
    guide_order: tuple[str, ...]
    bit_swap: bool
    batch_size: int
    num_samples: int
    dtype: torch.dtype

    @property
    def num_elements(self) -> int:
        """Of one datum."""
        return sum(site.num_elements for site in self.data)

    def to_plain(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "data": [site.to_plain() for site in self.data],
            "latents": [site.to_plain() for site in self.latents],
            "model_order": list(self.model_order),
            "guide_order": list(self.guide_order),
            "bit_swap": self.bit_swap,
            "batch_size": self.batch_size,
            "num_samples": self.num_samples,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Plan:
        """The way back."""
        return cls(
            tuple(DataSite.of_plain(each) for each in plain["data"]),
            tuple(LatentSite.of_plain(each) for each in plain["latents"]),
            tuple(plain["model_order"]),
            tuple(plain["guide_order"]),
            plain["bit_swap"],
            plain["batch_size"],
            plain["num_samples"],
            getattr(torch, plain["dtype"]),
        )


def families(fn: Any) -> list[Any]:
    """The distributions of elements of one family each, every one with all rows."""
    if not isinstance(fn, OfSeveralFamilies):
        return [fn]
    own: Any = fn
    lead = own.batch_shape[:-1]
    return [part.expand((*lead, part.batch_shape[-1])) for part in fn.parts]


def split(fn: Any, value: Tensor) -> Sequence[Tensor]:
    """The values of each of the families."""
    return fn.split(value) if isinstance(fn, OfSeveralFamilies) else [value]


def _layout(plain: Sequence[Sequence[int]]) -> Layout:
    return Layout(*(tuple(each) for each in plain))
