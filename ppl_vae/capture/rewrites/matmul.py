"""The fastest matrix product on a CPU, ATen's or one of oneDNN's, by timing them on a graph's shapes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor, fx

from ppl_vae.capture.rewrites import routes
from ppl_vae.capture.rewrites.routes import Route

aten = torch.ops.aten

GAIN = 0.9  # oneDNN's routes cost a call through Python, so they must be clearly the faster

_library = torch.library.Library("ppl_vae", "DEF")
# the second matrix as (N, K), which is how oneDNN's linear layer wants it
_library.define("onednn_linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
_library.define("onednn_weights(Tensor gradient, Tensor x) -> Tensor")


def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


def _onednn_weights(gradient: Tensor, x: Tensor) -> Tensor:
    """gradient (B, M) and x (B, N) to gradient^T x, (M, N).

    It is the gradient of the weights of a 1 x 1 convolution whose pixels are the rows. Of a linear layer
    oneDNN would want a transposed copy, which takes up to half of the product's time.
    """
    rows, columns = x.shape
    outputs, width = gradient.shape[1], _width(rows)
    images = [
        each.as_strided((1, size, rows // width, width), (rows * size, 1, width * size, size))
        for each, size in ((gradient, outputs), (x, columns))
    ]
    shape = x.new_empty_strided((outputs, columns, 1, 1), (columns, 1, columns, columns))
    options: tuple[object, ...] = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False])
    result: Tensor = aten.convolution_backward(*images, shape, *options)[1]
    return result.as_strided((outputs, columns), (columns, 1))


@functools.cache
def _width(rows: int) -> int:
    """That of an image of so many pixels, neither of whose sides is short where that can be."""
    return next(width for width in range(50, 0, -1) if rows % width == 0)


_library.impl("onednn_linear", _onednn_linear, "CPU")
_library.impl("onednn_linear", lambda x, weight, bias: x.new_empty(len(x), len(weight)), "Meta")
_library.impl("onednn_weights", _onednn_weights, "CPU")
_library.impl("onednn_weights", lambda gradient, x: x.new_empty(gradient.shape[1], x.shape[1]), "Meta")


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
        route = _fastest(values[0], values[1], bool(bias))
        if route == "aten":
            continue
        turned = 0 if route == "weights" else 1
        operands = [x, matrix]
        with graph.graph.inserting_before(node):
            operands[turned] = graph.graph.call_function(aten.t.default, (operands[turned],))
            operands[turned].meta["val"] = values[turned].t()
            arguments = operands if route == "weights" else [*operands, bias[0] if bias else None]
            product = graph.graph.call_function(_OPERATORS[route], tuple(arguments))
            product.meta.update(node.meta)
        node.replace_all_uses_with(product)
        graph.graph.erase_node(node)
        changed += 1
    if changed:
        graph.recompile()
    return changed


_OPERATORS = {
    "linear": torch.ops.ppl_vae.onednn_linear.default,
    "weights": torch.ops.ppl_vae.onednn_weights.default,
}


def _fastest(x: Tensor, matrix: Tensor, has_bias: bool) -> Route:
    key = routes.key_of(x, matrix, has_bias)
    known = routes.choice(key)
    if known is None:
        known = _time(x, matrix, has_bias)
        routes.keep(key, known)
    return known


@torch.no_grad()
def _time(like_x: Tensor, like_matrix: Tensor, has_bias: bool, repeats: int = 7) -> Route:
    # as strided as in the graph, since a transposed operand costs oneDNN a copy; and no random numbers used
    x, matrix = (
        torch.empty_strided(like.shape, like.stride(), dtype=torch.float32).fill_(0.5)
        for like in (like_x, like_matrix)
    )
    bias = torch.zeros(matrix.shape[1]) if has_bias else None
    ways: dict[Route, Callable[[], Tensor]] = {
        "aten": (lambda: torch.mm(x, matrix)) if bias is None else (lambda: torch.addmm(bias, x, matrix)),
        "linear": lambda: _OPERATORS["linear"](x, matrix.t(), bias),
    }
    if bias is None and x.t().is_contiguous() and matrix.is_contiguous():
        ways["weights"] = lambda: _OPERATORS["weights"](x.t(), matrix)
    seconds: dict[Route, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if repeat:  # the first builds kernels
                seconds[name].append(time.perf_counter() - started)
    least = {name: min(each) for name, each in seconds.items()}  # what else the machine does only adds
    least["aten"] *= GAIN
    return min(least, key=lambda name: least[name])
