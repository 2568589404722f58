"""`Split`: one part of a data set, which gives batches of tensors on its device."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.core.checks import check_seed
from ppl_vae.data.array_checks import divisor_of, rows_per_chunk, to_labels, to_storage
from ppl_vae.data.arrays import Arrays
from ppl_vae.data.data_error import DataError
from ppl_vae.data.naming import Stored, store
from ppl_vae.data.passes import in_chunks, read
from ppl_vae.data.rows import ResidentRows, Rows


@dataclass(frozen=True, eq=False, repr=False)
class Split(Arrays):
    """One part of a data set: one or several arrays of N rows as they are stored, and how a batch is made of
    them.

    A batch of the rows r of `x` is ``x = r / divisor``, float32, and then, where `dynamic`, a fresh draw
    ``x ~ Bernoulli(x)`` from torch's global generator at every call. Every other array is given as it is:
    whole numbers as int64, truth values as bool. `batch` is tensor work alone: for resident rows it neither
    branches on values nor waits for the device, so that a gradient step with it can be captured and compiled.

    Args:
        rows: where the rows of the main array are, `x`: in a tensor on a device, or streamed from a source.
        y: class labels, LongTensor `(N,)`, or None. They lie where the rows do.
        divisor: what stored values of `x` are divided by: 255 for uint8 images.
        dynamic: binarise `x` afresh at every batch.
        with_labels: a batch holds `y`: it is `(x, y)` instead of `(x,)`.
        factors: what each datum was made from, where that is known, `(N, F)` float32, or None. A batch
            does not hold them; `DataSet.factor_names` says what the columns are.
        missing: NaN is a missing value, for programs that take it.
        others: further arrays by name, rows of N data each: a mask, a size, a covariate.
        naming: what the arrays are called and in which order a batch has them; see `from_tensors`, `choose`.

    Raises:
        DataError: no rows, or labels, factors or other arrays of another length, or `with_labels` without
            labels.

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

    @classmethod
    def from_tensors(
        cls, arrays: Mapping[str, Any] | None = None, /, *, missing: bool = False, **named: Any
    ) -> Split:
        """A split of arrays by name, `(N, *event)` each, which are given to the arguments of their names.

        `x` is kept as by `from_tensor`. Every other array is given as it is: truth values stay bool, whole
        numbers are int64 in a batch, and real numbers float32 (float64 where a float64 Tensor is given). A
        `y` of one whole number a row is class labels too.

        Args:
            arrays: by name, in a dictionary.
            missing: NaN is a value that nobody knows.
            named: further arrays by name.

        Raises:
            DataError: an array that cannot be used (it is named), or lengths that differ.

        >>> import torch
        >>> split = Split.from_tensors(x=torch.rand(4, 3), mask=torch.rand(4, 3) < 0.5, size=[1, 2, 3, 4])
        >>> split
        Split(4, shape=(3,), device='cpu', batches of (x, mask, size))
        >>> [tensor.dtype for tensor in split.tensors()]
        [torch.float32, torch.bool, torch.int64]
        """
        return of_stored(store({**(arrays or {}), **named}, missing), missing=missing)

    def __repr__(self) -> str:
        kind = f"shape={self.shape}, device='{self.device}'"
        extra = [name for name in ("dynamic", "with_labels") if getattr(self, name)]
        extra += [] if self.resident else ["streamed"]
        if self.others or self.naming.by_user:
            extra = [each for each in extra if each != "with_labels"] + [
                f"batches of ({', '.join(self.names)})"
            ]
        return f"Split({', '.join([str(len(self)), kind, *extra])})"

    # Batches

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        """The rows at `index`, of each array of `names`: `(x,)`, or `(x, y)` with labels.

        Args:
            index: LongTensor `(B,)`. Best on the split's device for resident rows and on the CPU for
                streamed ones: else it is moved.

        Returns:
            x `(B, *shape)` of `dtype` and, with labels, y LongTensor `(B,)`, both on `device`.
        """
        return self._finish(self._read(index.to(self._home)))

    def batches(
        self,
        batch_size: int,
        *,
        shuffle_generator: torch.Generator | None = None,
        drop_last: bool = False,
    ) -> Iterator[tuple[Tensor, ...]]:
        """All batches of one pass, in order or shuffled by `shuffle_generator`.

        Streamed rows are read a batch ahead in a thread; those of files that are read in blocks, as many as
            a buffer of blocks has, and they are shuffled by blocks (`blocks.shuffled_by_blocks`).

        Raises:
            DataError: `batch_size` is not positive, or `drop_last` would drop everything.
        """
        chunks = self.indices(batch_size, shuffle_generator=shuffle_generator, drop_last=drop_last)
        return (self._finish(raw) for raw in read(self._read, chunks, ahead=self._ahead(batch_size)))

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
        shuffled = None if shuffle_generator is None else partial(self._shuffled, shuffle_generator)
        chunks = in_chunks(len(self), batch_size, self._home, drop_last, shuffled)
        if shuffled is None or self._in_blocks() is None:
            return chunks
        return tuple(chunk.sort().values for chunk in chunks)  # as the file has them, which is faster to read

    def tensors(self, limit: int | None = None) -> tuple[Tensor, ...]:
        """All rows, or those of `take(limit)`, as one batch: for small sets."""
        part = self if limit is None else self.take(limit)
        chunks = list(part.batches(rows_per_chunk(self.shape)))
        return chunks[0] if len(chunks) == 1 else tuple(torch.cat(each) for each in zip(*chunks))

    def mean(self) -> Tensor:
        """The mean datum of the main array, `shape`: ``1/N sum_i x_i``, summed in float64.

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
        dtype = self.dtype if self.dtype.is_floating_point else torch.float32
        return (total / (count * self.divisor)).to(dtype).to(self.device)

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
        others = {name: each.select(index) for name, each in self.others.items()}
        return replace(self, rows=self.rows.select(index), y=y, factors=factors, others=others)

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
        others = {name: each.to(target) for name, each in self.others.items()}
        return replace(self, rows=rows, y=y, factors=factors, others=others)

    def in_memory(self) -> Split:
        """The split with its rows read once into memory, for a folder or a map that does fit.

        Raises:
            DataError: a row that cannot be read.
        """

        def kept(rows: Rows) -> Rows:
            if isinstance(rows, ResidentRows):
                return rows
            chunks = torch.arange(len(rows)).split(rows_per_chunk(rows.shape))
            return ResidentRows(torch.cat([rows.read(index) for index in chunks]))

        if all(isinstance(rows, ResidentRows) for rows in (self.rows, *self.others.values())):
            return self
        others = {name: kept(rows) for name, rows in self.others.items()}
        return replace(self, rows=kept(self.rows), others=others).to(self.device)


def of_stored(kept: Stored, labels: bool | None = None, missing: bool = False) -> Split:
    """A split of arrays; its batches hold class labels where there are any, unless `labels` says no."""
    scaled = kept.naming.main == "x" and isinstance(kept.rows, ResidentRows)
    divisor = divisor_of(kept.rows.tensor) if scaled else 1.0  # type: ignore[union-attr]
    with_labels = kept.y is not None if labels is None else labels
    return Split(
        kept.rows,
        kept.y,
        divisor,
        with_labels=with_labels,
        missing=missing,
        others=kept.others,
        naming=kept.naming,
    )
