"""The faster of two matrix products on a CPU, ATen's or oneDNN's, by timing both on the shapes of a graph."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, fx

from ppl_vae.capture.rewrites import routes

aten = torch.ops.aten

GAIN = 0.9  # oneDNN's route costs a call through Python, so it must be clearly the faster

_library = torch.library.Library("ppl_vae", "DEF")
# the second matrix as (N, K), which is how oneDNN's linear layer wants it
_library.define("onednn_linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor")


def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


def _shape_only(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


_library.impl("onednn_linear", _onednn_linear, "CPU")
_library.impl("onednn_linear", _shape_only, "Meta")


def available() -> bool:
    """Whether this torch has oneDNN's linear layer as an operator."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def choose_routes(graph: fx.GraphModule) -> int:
    """Put oneDNN's product where it is the faster one, in place; how many products that were."""
    if not available():
        return 0
    changed = 0
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or node.target not in (aten.mm.default, aten.addmm.default):
            continue
        if node.kwargs:  # alpha, beta
            continue
        *bias, x, matrix = node.args
        values = [part.meta.get("val") for part in (x, matrix)]
        if any(v is None or v.dtype != torch.float32 or v.device.type != "cpu" for v in values):
            continue
        if bias and bias[0].meta["val"].dim() != 1:
            continue
        if not _onednn_is_faster(values[0], values[1], bool(bias)):
            continue
        with graph.graph.inserting_before(node):
            turned = graph.graph.call_function(aten.t.default, (matrix,))
            turned.meta["val"] = values[1].t()
            arguments = (x, turned, bias[0] if bias else None)
            product = graph.graph.call_function(torch.ops.ppl_vae.onednn_linear.default, arguments)
            product.meta.update(node.meta)
        node.replace_all_uses_with(product)
        graph.graph.erase_node(node)
        changed += 1
    if changed:
        graph.recompile()
    return changed


def _onednn_is_faster(x: Tensor, matrix: Tensor, has_bias: bool) -> bool:
    key = routes.key_of(x, matrix, has_bias)
    known = routes.choice(key)
    if known is None:
        known = _time(x, matrix, has_bias)
        routes.keep(key, known)
    return known


@torch.no_grad()
def _time(like_x: Tensor, like_matrix: Tensor, has_bias: bool, repeats: int = 7) -> bool:
    # as strided as in the graph, since a transposed operand costs oneDNN a copy; and no random numbers used
    x, matrix = (
        torch.empty_strided(like.shape, like.stride(), dtype=torch.float32).fill_(0.5)
        for like in (like_x, like_matrix)
    )
    bias = torch.zeros(matrix.shape[1]) if has_bias else None
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for route, times in enumerate(seconds):
            started = time.perf_counter()
            if route:
                torch.ops.ppl_vae.onednn_linear(x, matrix.t(), bias)
            elif bias is None:
                torch.mm(x, matrix)
            else:
                torch.addmm(bias, x, matrix)
            if repeat:  # the first builds kernels
                times.append(time.perf_counter() - started)
    return statistics.median(seconds[1]) < GAIN * statistics.median(seconds[0])
