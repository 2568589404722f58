"""Matrix products of numbers rounded to bfloat16, summed in float32, on a CPU that has such products."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

MatmulPrecision = Literal["float32", "bf16"]


def has_products() -> bool:
    """Whether oneDNN multiplies bfloat16 matrices on this processor in place of float32 ones, by AMX.

    With AVX512-BF16 alone it takes the same permission, and goes on in float32.
    """
    check = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return torch.backends.mkldnn.is_available() and check is not None and bool(check())


def in_bfloat16(run: Callable[..., Any]) -> Callable[..., Sequence[Tensor]]:
    """`run` with oneDNN free to round the factors of float32 products itself,
    which sends ATen's products to it.
    """

    def rounding(*inputs: Tensor) -> Sequence[Tensor]:
        with _onednn_rounds():
            results: Sequence[Tensor] = run(*inputs)
            return results

    return rounding


@contextmanager
def _onednn_rounds() -> Iterator[None]:
    settings: list[Any] = [getattr(torch.backends.mkldnn, name, None) for name in ("matmul", "conv")]
    if None in settings:  # torch before 2.9
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    known = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "bf16"
        yield
    finally:
        for setting, precision in zip(settings, known, strict=True):
            setting.fp32_precision = precision
