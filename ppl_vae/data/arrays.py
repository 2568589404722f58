"""Several arrays of N rows each, by name, and how a batch is made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from ppl_vae.data.blocks import BlockColumn, shuffled_by_blocks
from ppl_vae.data.data_error import DataError
from ppl_vae.data.naming import ONLY_X, Naming, given_dtype
from ppl_vae.data.rows import ResidentRows, Rows, StreamedRows


@dataclass(frozen=True, eq=False, repr=False)
class Arrays:
    """What a `Split` holds and makes batches of; its arguments are said there.

    Attributes:
        names: the arrays that a batch holds, in order.
    """

    rows: Rows
    y: Tensor | None = None
    divisor: float = 1.0
    dynamic: bool = False
    with_labels: bool = False
    factors: Tensor | None = None
    missing: bool = False
    others: Mapping[str, Rows] = field(default_factory=dict)
    naming: Naming = ONLY_X
    names: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        if len(self.rows) == 0:
            raise DataError("a split is empty; give it at least one row")
        for what, known in (("labels", self.y), ("factors", self.factors), *self.others.items()):
            if known is not None and len(known) != len(self.rows):
                raise DataError(f"{len(known)} {what} for {len(self.rows)} rows; give one for each")
        if self.with_labels and self.y is None:
            raise DataError("labels=True, and the data has no labels; give them or leave it out")
        # once, since every step asks for it
        object.__setattr__(self, "names", self._in_order())

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """The event shape of the main array: `(C, H, W)` or `(D,)`."""
        return self.rows.shape

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The event shape of each array of a batch."""
        return {name: () if self._is_label(name) else self._rows_of(name).shape for name in self.names}

    def arrays(self) -> dict[str, tuple[int, ...]]:
        """The event shape of each array that there is, but for labels."""
        return {self.naming.main: self.shape, **{name: rows.shape for name, rows in self.others.items()}}

    @property
    def held(self) -> tuple[str, ...]:
        """The arrays that there are, whether a batch holds them or not."""
        return (self.naming.main, *(["y"] if self.y is not None else []), *self.others)

    @property
    def unnamed(self) -> tuple[str, ...]:
        """The places of arrays that have no name."""
        return tuple(name for name in self.names if name.isdigit())

    @property
    def dtype(self) -> torch.dtype:
        """The type of a batch of `x`: float32, or float64 where a float64 Tensor was given."""
        if self.naming.main != "x":
            return given_dtype(self.rows.dtype)
        return torch.float64 if self.rows.dtype == torch.float64 else torch.float32

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self.rows.device

    @property
    def labels(self) -> Tensor | None:
        """Class labels, LongTensor `(N,)`, or None."""
        return self.y

    @property
    def resident(self) -> bool:
        """Whether all rows lie on the device; else each batch is read on the host and moved."""
        return isinstance(self.rows, ResidentRows) and all(
            isinstance(self.others[name], ResidentRows) for name in self.names if name in self.others
        )

    def choose(self, names: Sequence[str]) -> Self:
        """The split whose batches hold these arrays, in this order.

        Raises:
            DataError: for an array that there is not.
        """
        if unknown := [name for name in names if name not in self.held]:
            raise DataError(f"there is no array {unknown[0]!r}: the data has {', '.join(self.held)}")
        naming = replace(self.naming, order=tuple(names))
        return replace(self, naming=naming, with_labels=self.y is not None and "y" in names)

    def stored(self) -> tuple[Tensor, ...]:
        """The tensors that batches of resident rows are made of, in the order of `names`."""
        return tuple([self._stored(name) for name in self.names])

    def holding(self, tensors: Sequence[Tensor]) -> Self:
        """The split with other tensors in the place of those that `stored` gives."""
        given = dict(zip(self.names, tensors, strict=True))
        main = given.get(self.naming.main)
        return replace(
            self,
            rows=self.rows if main is None else ResidentRows(main),
            y=given["y"] if self.with_labels else self.y,
            others={n: ResidentRows(given[n]) if n in given else rows for n, rows in self.others.items()},
        )

    @property
    def _home(self) -> torch.device:
        """Where rows are gathered, and so where an index belongs."""
        return self.device if self.resident else torch.device("cpu")

    def _in_blocks(self) -> StreamedRows | None:
        """An array of a batch that is read in blocks, by which a pass is shuffled."""
        streamed = [rows for rows in map(self._rows_if_any, self.names) if isinstance(rows, StreamedRows)]
        return next((rows for rows in streamed if isinstance(rows.source, BlockColumn)), None)

    def _shuffled(self, generator: torch.Generator) -> Tensor:
        """All rows in a random order."""
        rows = self._in_blocks()
        if rows is None:
            return torch.randperm(len(self), generator=generator, device=generator.device)
        assert isinstance(rows.source, BlockColumn)
        return shuffled_by_blocks(rows.source, rows.positions, generator)

    def _ahead(self, batch_size: int) -> int:
        """How many batches are read ahead."""
        rows = self._in_blocks()
        if rows is None:
            return 0 if self.resident else 1
        assert isinstance(rows.source, BlockColumn)
        return max(1, math.ceil(rows.source.file.rows_in_buffer / batch_size))

    def _in_order(self) -> tuple[str, ...]:
        """The arrays of a batch."""
        order = self.naming.order or (self.naming.main, *self.others)
        names = [name for name in order if self.with_labels or not self._is_label(name)]
        if unknown := [name for name in names if name not in self.held]:
            raise DataError(f"there is no array {unknown[0]!r}: the data has {', '.join(self.held)}")
        if self.with_labels and "y" not in names:
            names.insert(1, "y")
        return tuple(names)

    def _is_label(self, name: str) -> bool:
        return name == "y" and self.naming.main != "y" and "y" not in self.others

    def _rows_if_any(self, name: str) -> Rows | None:
        return None if self._is_label(name) else self._rows_of(name)

    def _rows_of(self, name: str) -> Rows:
        return self.rows if name == self.naming.main else self.others[name]

    def _stored(self, name: str) -> Tensor:
        if self._is_label(name):
            assert self.y is not None
            return self.y
        rows = self._rows_of(name)
        assert isinstance(rows, ResidentRows)
        return rows.tensor

    def _read(self, index: Tensor) -> tuple[Tensor, ...]:
        """Stored rows of each array, copies of them."""
        return tuple(
            [
                self._stored(name).index_select(0, index.to(self._stored(name).device))
                if self._is_label(name)
                else self._rows_of(name).read(index)
                for name in self.names
            ]
        )

    def _finish(self, raw: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Stored rows -> the batch."""
        return tuple([self._finished(name, each) for name, each in zip(self.names, raw)])

    def _finished(self, name: str, raw: Tensor) -> Tensor:
        # bytes cross to the device, floats are made there
        given = raw.to(self.device, non_blocking=True)
        if name != "x":
            return given.to(given_dtype(raw.dtype))
        x = given.to(torch.float64 if raw.dtype == torch.float64 else torch.float32)
        if self.divisor != 1.0:
            x.div_(self.divisor)
        if self.dynamic:
            # Bernoulli(x): four times as fast on a CPU as torch.bernoulli(x), and as exact, since
            # u is uniform on [0, 1): u < 0 never and u < 1 always.
            x = torch.rand_like(x).lt_(x)
        return x
