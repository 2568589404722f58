"""One batch given by hand, made of what a data set would have given: numbers of the programs' types,
all finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.missing import is_clean
from ppl_vae.data.array_checks import check_finite, divisor_of, to_float32
from ppl_vae.data.data_error import DataError
from ppl_vae.data.foreign import to_array

# a Split stores more kinds as floats, and a program that is not known yet may take whole numbers as indices
_NUMBERS = (torch.uint8, torch.bool, torch.int8, torch.int16, torch.float16, torch.bfloat16)


def to_batch(
    items: Sequence[Any],
    dtypes: Sequence[torch.dtype],
    names: Sequence[str] = (),
    missing: bool = False,
    floats: torch.dtype | None = None,
) -> tuple[Tensor, ...]:
    """The tensors that programs are called with, the first as `Split` makes it: uint8 is divided by 255,
    bits are not.

    Args:
        items: Tensors or arrays, each (n, ...).
        dtypes: of what the programs have been called with so far, one for each; empty where that is unknown,
            which leaves all as they are but, in the first, what no program computes or counts with: bytes,
            truth values, short whole numbers, half precision.
        names: what the errors call them.
        missing: whether the programs take NaN for a missing value.
        floats: the type of the programs' real numbers; torch's default where it is None.

    Raises:
        DataError: no array, complex, NaN or infinite (the row is named), a number that is not whole where
            whole ones belong, such as a label, or bytes that may or may not be pixels.
    """
    tensors = []
    for number, item in enumerate(items):
        name = f"tensor {number} of the batch" if len(items) > 1 else "the batch"
        name = names[number] if names else name
        tensor = _finite(item, name, missing)
        if number < len(dtypes):
            wanted = dtypes[number]
        elif number == 0 and tensor.dtype in _NUMBERS:
            wanted = floats or torch.get_default_dtype()
        else:
            wanted = tensor.dtype
        tensors.append(_converted(tensor, wanted, name, is_data=number == 0))
    return tuple(tensors)


def _finite(value: Any, what: str, missing: bool) -> Tensor:
    array = to_array(value, what)
    if not isinstance(array, Tensor):
        if array.dtype.kind not in "buif":
            raise DataError(f"{what}: values of type {array.dtype} are not numbers; convert them first")
        array = torch.tensor(to_float32(array) if array.dtype.kind == "f" else array)
    if array.is_meta:
        raise DataError(f"{what}: a tensor on the device 'meta' has a shape and no values")
    if array.is_complex():
        raise DataError(f"{what}: complex values are not supported; give their real parts")
    if array.is_floating_point() and not is_clean(array, missing):
        _name_row(array, what, missing)
    return array


def _converted(array: Tensor, dtype: torch.dtype, what: str, is_data: bool) -> Tensor:
    if array.dtype == dtype:
        return array
    converted = array.to(dtype)
    if dtype.is_floating_point:
        divisor = divisor_of(array) if array.numel() else 1.0
        if divisor != 1.0 and not is_data:
            raise DataError(
                f"{what}: bytes (uint8) may be pixels or counts, and the programs take {dtype} here: give "
                f"x.float() / 255 or x.float()"
            )
        return converted if divisor == 1.0 else converted / divisor
    if not torch.equal(converted.to(array.dtype), array):
        wrong = converted.to(array.dtype) != array
        kind = "truth values" if dtype == torch.bool else f"whole numbers ({dtype})"
        found = array[wrong].flatten()[0].item()
        raise DataError(
            f"{what}: the programs take {kind} here, and it holds {found:g}: convert it, as it is meant"
        )
    return converted


def _name_row(array: Tensor, what: str, missing: bool) -> None:
    try:
        check_finite(array if array.dim() else array[None], what, missing=missing)
    except DataError as error:
        raise DataError(
            f"{error}. Where missing values are meant, the programs take a mask as a tensor of its own, "
            f"or NaN: likelihoods.Mixed and nets.ColumnEncoder do"
        ) from None
