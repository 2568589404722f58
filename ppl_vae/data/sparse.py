"""Sparse matrices: rows that become dense a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppl_vae.data.array_checks import check_shape, to_float32
from ppl_vae.data.data_error import DataError
from ppl_vae.data.rows import StreamedRows, stream


def is_sparse(data: Any) -> bool:
    """Whether this is a matrix or an array of `scipy.sparse`."""
    return hasattr(data, "tocsr") and hasattr(data, "nnz")


@dataclass(frozen=True, eq=False)
class SparseRows:
    """The rows of a matrix in SciPy's CSR format, `(N, D)`; the zeros that it leaves out are zeros.

    Args:
        matrix: with checked values.
    """

    matrix: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self.matrix.shape[1]),)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = torch.from_numpy(self.matrix.data[:0]).dtype
        return dtype

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """The rows at `positions`, dense."""
        return torch.from_numpy(np.ascontiguousarray(self.matrix[positions].toarray()))


def sparse_rows(matrix: Any, what: str, real: bool) -> StreamedRows:
    """The rows of a sparse matrix.

    Args:
        what: what errors call it.
        real: make the values float32, as those of `x` are; they are never scaled. Else whole numbers and
            truth values stay what they are.

    Raises:
        DataError: not numbers, empty, not of two dimensions, or a value that is not finite.
    """
    if matrix.ndim != 2:
        raise DataError(f"{what}: a sparse array of {matrix.ndim} dimensions; give (N, D), or x.toarray()")
    check_shape(tuple(matrix.shape), what)
    rows = matrix.tocsr()
    if rows.dtype.kind not in "buif":
        raise DataError(f"{what}: values of type {rows.dtype} are not numbers; convert them first")
    if rows.dtype.kind == "f" or real:
        rows = rows.astype(np.float32) if rows.dtype != np.float32 else rows
        if not (good := np.isfinite(to_float32(rows.data))).all():
            row = int(np.searchsorted(rows.indptr, int(good.argmin()), side="right")) - 1
            raise DataError(f"{what}: row {row} holds NaN or an infinite value; remove the row or replace it")
    elif rows.dtype.kind != "b":
        rows = rows.astype(np.int64)
    return stream(SparseRows(rows))
