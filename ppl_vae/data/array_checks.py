"""Checks of arrays and labels, made once at load, so that no batch needs any.

Storage rule: truth values and uint8 stay one byte a value; every other type becomes float32 (a float64
*Tensor* stays float64, since there the precision was chosen).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppl_vae.data.data_error import DataError
from ppl_vae.data.foreign import to_array

_WHERE_MISSING = ", or, where NaN stands for a missing value, give data.from_tensors(x, missing=True)"

CHUNK = 2**22  # values looked at at once: bounds the memory that a check needs


def rows_per_chunk(shape: tuple[int, ...]) -> int:
    """The number of rows of event shape `shape` that one chunk holds, at least 1."""
    return max(1, CHUNK // max(1, math.prod(shape)))


def to_storage(array: Any, what: str, missing: bool = False) -> Tensor:
    """`array` as the tensor to keep, `(N, *event)`: uint8, float32 or float64; checked.

    Args:
        missing: whether NaN stands for a missing value.

    Raises:
        DataError: no array, not numeric, no rows, fewer than two dimensions, or a value that is not finite.
    """
    array = to_array(array, what)
    is_tensor = isinstance(array, Tensor)
    if not is_tensor:
        if array.dtype.kind not in "buif":
            raise DataError(
                f"{what}: values of type {array.dtype} are not numbers; "
                f"convert them first, for example x.astype('float32')"
            )
        if array.dtype.kind == "b":
            array = array.view(np.uint8)
        elif array.dtype != np.uint8:
            array = to_float32(array)
        # torch cannot hold read-only or negatively strided memory
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()
        array = torch.from_numpy(array)
    elif array.is_meta:
        raise DataError(f"{what}: a tensor on the device 'meta' has a shape and no values")
    elif array.is_complex():
        raise DataError(f"{what}: complex values are not supported; give their real parts")
    elif array.dtype == torch.bool:
        array = array.to(torch.uint8)
    elif array.dtype not in (torch.uint8, torch.float32, torch.float64):
        array = array.to(torch.float32)
    tensor = array.detach()
    # a tensor of one's own may hold scalars, (N,): its event shape is then ()
    scalars = is_tensor and tensor.ndim == 1
    check_shape((*tensor.shape, 1) if scalars else tuple(tensor.shape), what)
    check_finite(tensor, what, missing=missing)
    return tensor


def to_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """`array` in float32; what is too large becomes infinite, which `check_finite` names."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def check_shape(shape: tuple[int, ...], what: str) -> None:
    """Raises DataError unless `shape` is `(N, *event)` with at least one row and one value."""
    if len(shape) < 2:
        raise DataError(
            f"{what}: shape {shape} has no event dimension; a data set is (N, D) or (N, C, H, W): "
            f"reshape it, for example x.reshape(-1, 1)"
        )
    if 0 in shape:
        raise DataError(f"{what}: shape {shape} holds no data; give at least one row and one value")


def check_finite(tensor: Tensor, what: str, first_row: int = 0, missing: bool = False) -> None:
    """Raises DataError that names the first row with an infinity or, unless it is `missing`, a NaN."""
    if tensor.dtype == torch.uint8:
        return
    size, start = rows_per_chunk(tuple(tensor.shape[1:])), first_row
    for chunk in tensor.split(size):
        good = torch.isfinite(chunk)
        if missing:
            good |= chunk.isnan()
        if not good.all():
            row, value = _first(chunk, good)
            kind = "NaN" if math.isnan(value) else "an infinite value"
            raise DataError(
                f"{what}: row {start + row} holds {kind} (in {chunk.dtype}); remove the row or "
                f"replace the value" + (_WHERE_MISSING if kind == "NaN" else "")
            )
        start += len(chunk)


def check_unit_interval(tensor: Tensor, what: str, first_row: int = 0) -> None:
    """Raises DataError that names the first row with a value outside [0, 1]."""
    if tensor.dtype == torch.uint8:  # scaled into [0, 1] by its divisor
        return
    start = first_row
    for chunk in tensor.split(rows_per_chunk(tuple(tensor.shape[1:]))):
        good = (chunk >= 0) & (chunk <= 1)
        if not good.all():
            row, value = _first(chunk, good)
            raise DataError(
                f"{what}: row {start + row} holds {value:g}, and only values in [0, 1] can be "
                f"binarised; scale the data (for example x / 255) or give binarise=None"
            )
        start += len(chunk)


def divisor_of(*tensors: Tensor) -> float:
    """What stored values are divided by: 255 for uint8 images, 1 for uint8 in {0, 1} and floats."""
    for tensor in tensors:
        if tensor.dtype == torch.uint8:
            for chunk in tensor.split(rows_per_chunk(tuple(tensor.shape[1:]))):
                if int(chunk.max()) > 1:  # ends at the first grey value: images are seen at once
                    return 255.0
    return 1.0


def to_labels(labels: Any, length: int, what: str) -> Tensor:
    """`labels` as a LongTensor `(N,)`.

    Raises:
        DataError: not one whole number per row.
    """
    y = labels.detach() if isinstance(labels, Tensor) else np.asarray(labels)
    if not isinstance(y, Tensor):
        if y.dtype.kind not in "buif":
            raise DataError(f"{what}: labels of type {y.dtype} are not whole numbers; number them")
        y = torch.from_numpy(y.astype(np.int64 if y.dtype.kind in "bui" else np.float64))
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(
            f"{what}: labels have shape {tuple(y.shape)}; give one number per row; one-hot rows are numbered "
            "by y.argmax(1)"
        )
    if len(y) != length:
        raise DataError(f"{what}: {len(y)} labels for {length} rows; give one label per row")
    whole = y.to(torch.int64)
    if y.is_floating_point() and not torch.equal(whole.to(y.dtype), y):
        row = int((whole.to(y.dtype) != y).nonzero()[0])
        raise DataError(f"{what}: label {float(y[row]):g} in row {row} is not a whole number")
    return whole


def _first(chunk: Tensor, good: Tensor) -> tuple[int, float]:
    """The row and the value of the first entry of `chunk` that is not `good`."""
    position = int(torch.argmin(good.flatten().to(torch.uint8)))
    return position // (chunk.numel() // len(chunk)), float(chunk.flatten()[position])
