"""`Split`: one part of a data set, which gives batches of float tensors on its device."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.core.checks import check_seed
from ppl_vae.data.checks import divisor_of, rows_per_chunk, to_labels, to_storage
from ppl_vae.data.data_error import DataError
from ppl_vae.data.passes import in_chunks, read
from ppl_vae.data.rows import ResidentRows, Rows


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """One part of a data set: rows as they are stored, and how a batch is made of them.

    A batch of rows r is ``x = r / divisor``, float32, and then, where `dynamic`, a fresh draw
    ``x ~ Bernoulli(x)`` from torch's global generator at every call. `batch` is tensor work alone:
    for resident rows it neither branches on values nor waits for the device, so that a gradient step
    with it can be captured and compiled.

    Args:
        rows: where the rows are: in a tensor on a device, or streamed from a source.
        y: class labels, LongTensor `(N,)`, or None. They lie where the rows do.
        divisor: what stored values are divided by: 255 for uint8 images.
        dynamic: binarise afresh at every batch.
        with_labels: a batch is `(x, y)` instead of `(x,)`.
        factors: what each datum was made from, where that is known, `(N, F)` float32, or None. A batch
            does not hold them; `DataSet.factor_names` says what the columns are.
        missing: NaN among the rows is a missing value, for programs that take it.

    Raises:
        DataError: no rows, or labels or factors of another length, or `with_labels` without labels.

    >>> import torch
    >>> from ppl_vae.data import Split
    >>> split = Split.from_tensor(torch.arange(12.0).reshape(4, 3))
    >>> len(split), split.shape
    (4, (3,))
    >>> (x,) = split.batch(torch.tensor([0, 3]))
    >>> x
    tensor([[ 0.,  1.,  2.],
            [ 9., 10., 11.]])
    """

    rows: Rows
    y: Tensor | None = None
    divisor: float = 1.0
    dynamic: bool = False
    with_labels: bool = False
    factors: Tensor | None = None
    missing: bool = False

    def __post_init__(self) -> None:
        if len(self.rows) == 0:
            raise DataError("a split is empty; give it at least one row")
        for what, known in (("labels", self.y), ("factors", self.factors)):
            if known is not None and len(known) != len(self.rows):
                raise DataError(f"{len(known)} {what} for {len(self.rows)} rows; give one for each")
        if self.with_labels and self.y is None:
            raise DataError("labels=True, and the data has no labels; give them or leave it out")

    @classmethod
    def from_tensor(cls, x: Any, y: Any = None, *, labels: bool = False, missing: bool = False) -> Split:
        """A split of an array or a Tensor `(N, *event)` that keeps its event shape.

        A Tensor is not copied and stays on its device; float64 Tensors give float64 batches. uint8
        data is divided by 255 (uint8 in {0, 1} is left as it is).

        Raises:
            DataError: not numeric, empty, without an event dimension, infinite or, unless `missing`, NaN
                (the row is named), or labels that do not fit.
        """
        tensor = to_storage(x, "x", missing)
        y = None if y is None else to_labels(y, len(tensor), "y").to(tensor.device)
        return cls(ResidentRows(tensor), y, divisor_of(tensor), with_labels=labels, missing=missing)

    # What it is

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """The event shape: `(C, H, W)` or `(D,)`."""
        return self.rows.shape

    @property
    def dtype(self) -> torch.dtype:
        """The type of a batch: float32, or float64 where a float64 Tensor was given."""
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
        return isinstance(self.rows, ResidentRows)

    def __repr__(self) -> str:
        kind = f"shape={self.shape}, device='{self.device}'"
        extra = [name for name in ("dynamic", "with_labels") if getattr(self, name)]
        extra += [] if self.resident else ["streamed"]
        return f"Split({', '.join([str(len(self)), kind, *extra])})"

    # Batches

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        """The rows at `index` as `(x,)`, or `(x, y)` with labels.

        Args:
            index: LongTensor `(B,)`. Best on the split's device for resident rows and on the CPU for
                streamed ones: else it is moved.

        Returns:
            x `(B, *shape)` of `dtype` and, with labels, y LongTensor `(B,)`, both on `device`.
        """
        index = index.to(self._home)
        return self._finish(self.rows.read(index), index)

    def batches(
        self,
        batch_size: int,
        *,
        shuffle_generator: torch.Generator | None = None,
        drop_last: bool = False,
    ) -> Iterator[tuple[Tensor, ...]]:
        """All batches of one pass, in order or shuffled by `shuffle_generator`.

        Streamed rows are read one batch ahead in a thread.

        Raises:
            DataError: `batch_size` is not positive, or `drop_last` would drop everything.
        """
        chunks = self.indices(batch_size, shuffle_generator=shuffle_generator, drop_last=drop_last)
        return (self._finish(raw, index) for raw, index in read(self.rows, chunks))

    def indices(
        self,
        batch_size: int,
        *,
        shuffle_generator: torch.Generator | None = None,
        drop_last: bool = False,
    ) -> tuple[Tensor, ...]:
        """The rows of each batch of one pass, as `batch` takes them: what `batches` runs through.

        Raises:
            DataError: `batch_size` is not positive, or `drop_last` would drop everything.
        """
        return in_chunks(len(self), batch_size, self._home, shuffle_generator, drop_last)

    def tensors(self, limit: int | None = None) -> tuple[Tensor, ...]:
        """All rows, or those of `take(limit)`, as one batch: for small sets."""
        part = self if limit is None else self.take(limit)
        chunks = list(part.batches(rows_per_chunk(self.shape)))
        return chunks[0] if len(chunks) == 1 else tuple(torch.cat(each) for each in zip(*chunks))

    def mean(self) -> Tensor:
        """The mean datum, `shape`: ``1/N sum_i x_i``, summed in float64.

        For dynamic rows it is the mean of the probabilities, with no draw; of values that are missing in some
        rows it is the mean over the others, and NaN where there are none.
        """
        total = torch.zeros(self.shape, dtype=torch.float64)
        count: Tensor | int = len(self)
        if self.missing:
            count = torch.zeros(self.shape, dtype=torch.float64)
        for index in torch.arange(len(self)).split(rows_per_chunk(self.shape)):
            # on the host, since not every device has float64
            rows = self.rows.read(index.to(self._home)).cpu()
            total += rows.nansum(0, dtype=torch.float64) if self.missing else rows.sum(0, dtype=torch.float64)
            count += (~rows.isnan()).sum(0) if self.missing else 0
        return (total / (count * self.divisor)).to(self.dtype).to(self.device)

    # Other splits

    def __getitem__(self, rows: slice | Tensor) -> Split:
        """The split of these rows only: `split[:100]`, or `split[index]` with a LongTensor."""
        if isinstance(rows, slice):
            wanted = range(len(self))[rows]
            index = torch.from_numpy(np.arange(wanted.start, wanted.stop, wanted.step))
        elif isinstance(rows, Tensor) and rows.dtype == torch.int64 and rows.ndim == 1:
            index = rows
        else:
            raise TypeError(
                f"a split takes a slice or a LongTensor (N,), not {rows!r}; for one row: split[5:6]"
            )
        index = index.to(self._home)
        y, factors = (None if known is None else known[index] for known in (self.y, self.factors))
        return replace(self, rows=self.rows.select(index), y=y, factors=factors)

    def take(self, n: int, *, seed: int = 0, in_order: bool = False) -> Split:
        """`n` rows at random, the same for the same seed; all of them, as they are, where there are no more.

        A smaller `n` takes the first of a larger one's rows.

        Args:
            n: how many.
            in_order: the first `n` as they are stored; a file's may all be of one class.

        Raises:
            DataError: for `n` below one, and a seed that is none.
        """
        n = operator.index(n)
        if n < 1:
            raise DataError(f"take({n}): give at least 1 row")
        check_seed("seed", seed, DataError)
        if n >= len(self):
            return self
        if in_order:
            return self[:n]
        return self[torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:n]]

    def to(self, device: torch.device | str) -> Split:
        """The split with batches on `device`.

        The stored rows move there once; where they would take more than half of the device's free
        memory they stay in host memory and each batch is moved (pinned, without waiting).
        """
        target = torch.empty(0, device=device).device  # "cuda" names its index, as tensors do
        rows = self.rows.to(target)
        home = target if isinstance(rows, ResidentRows) else torch.device("cpu")
        y, factors = (None if known is None else known.to(home) for known in (self.y, self.factors))
        return replace(self, rows=rows, y=y, factors=factors)

    def in_memory(self) -> Split:
        """The split with its rows read once into memory, for a folder or a map that does fit.

        Raises:
            DataError: a row that cannot be read.
        """
        if self.resident:
            return self
        chunks = torch.arange(len(self)).split(rows_per_chunk(self.shape))
        tensor = torch.cat([self.rows.read(index) for index in chunks])
        return replace(self, rows=ResidentRows(tensor)).to(self.device)

    # How a batch is made

    @property
    def _home(self) -> torch.device:
        """Where rows are gathered, and so where an index belongs."""
        return self.device if self.resident else torch.device("cpu")

    def _finish(self, raw: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        """Stored rows (a copy of them) -> the batch."""
        # bytes cross to the device, floats are made there
        x = raw.to(self.device, non_blocking=True).to(self.dtype)
        if self.divisor != 1.0:
            x.div_(self.divisor)
        if self.dynamic:
            # Bernoulli(x): four times as fast on a CPU as torch.bernoulli(x), and as exact, since
            # u is uniform on [0, 1): u < 0 never and u < 1 always.
            x = torch.rand_like(x).lt_(x)
        if not self.with_labels or self.y is None:
            return (x,)
        return x, self.y.index_select(0, index).to(self.device, non_blocking=True)


def as_split(data: Split | Any, missing: bool = False) -> Split:
    """`data` itself if it is a Split, else `Split.from_tensor(data, missing=missing)`.

    Raises:
        DataError: as `Split.from_tensor`, or a whole data set was given.
    """
    if isinstance(data, Split):
        return data
    if isinstance(getattr(data, "test", None), Split):
        raise DataError("a whole data set was given; give one of its parts, for example data.test")
    return Split.from_tensor(data, missing=missing)
