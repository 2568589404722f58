"""Matrix products of numbers rounded to bfloat16, summed and kept in float32, on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, fx

MatmulPrecision = Literal["float32", "bf16"]

aten = torch.ops.aten

# the arguments that are multiplied with one another
FACTORS = {
    aten.mm.default: (0, 1),
    aten.addmm.default: (1, 2),
    aten.bmm.default: (0, 1),
    aten.baddbmm.default: (1, 2),
    aten.convolution.default: (0, 1),
    aten.convolution_backward.default: (0, 1, 2),
}
SPLIT = 2.0**16 + 1


def to_bfloat16(x: Tensor) -> Tensor:
    """The float32 numbers nearest to x that bfloat16 has, by Veltkamp's splitting: 8 of 24 bits are kept.

    In sums and products, since Inductor leaves out a cast to bfloat16 and back. Above 2^111 the result is
    NaN or infinite.
    """
    high = x * SPLIT
    return high - (high - x)


def round_factors(graph: fx.GraphModule) -> int:
    """Round the factors of all float32 products and convolutions, in place; how many tensors were rounded."""
    rounded: dict[fx.Node, fx.Node] = {}
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or node.target not in FACTORS:
            continue
        for place in FACTORS[node.target]:
            factor = node.args[place]
            if factor.meta["val"].dtype != torch.float32:
                continue
            if factor not in rounded:
                with graph.graph.inserting_before(node):
                    rounded[factor] = _rounded(graph.graph, factor)
            node.update_arg(place, rounded[factor])
    if rounded:
        graph.recompile()
    return len(rounded)


def _rounded(graph: fx.Graph, x: fx.Node) -> fx.Node:
    high = graph.call_function(aten.mul.Tensor, (x, SPLIT))
    low = graph.call_function(aten.sub.Tensor, (high, x))
    result = graph.call_function(aten.sub.Tensor, (high, low))
    for node in (high, low, result):
        node.meta["val"] = x.meta["val"]
    return result


def has_products() -> bool:
    """Whether this processor multiplies bfloat16 matrices, by AVX512-BF16 or AMX."""
    known = [
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ]
    return torch.backends.mkldnn.is_available() and any(check is not None and check() for check in known)


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
    settings = [getattr(torch.backends.mkldnn, name, None) for name in ("matmul", "conv")]
    if None in settings:  # torch before 2.9
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    known = [setting.fp32_precision for setting in settings]  # type: ignore[union-attr]
    try:
        for setting in settings:
            setting.fp32_precision = "bf16"  # type: ignore[union-attr]
        yield
    finally:
        for setting, precision in zip(settings, known, strict=True):
            setting.fp32_precision = precision  # type: ignore[union-attr]
