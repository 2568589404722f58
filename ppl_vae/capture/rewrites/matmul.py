"""Matrix products by oneDNN on a CPU, where they are so large that they are faster than ATen's.

By their shapes alone, and not by timing them: what rounds in one process rounds so in every other.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

aten = torch.ops.aten

WORK = 1.5e6
"""Products of two numbers, from which oneDNN repays its call; it is up to twice as fast (AMD, AVX512)."""
COLUMNS = 100
"""Of the result, from which it repays the copy that oneDNN makes of a first matrix that is transposed."""

_library = torch.library.Library("ppl_vae", "DEF")
# the second matrix as (N, K), which is how oneDNN's linear layer wants it
_library.define("onednn_linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor")


def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


_library.impl("onednn_linear", _onednn_linear, "CPU")
_library.impl("onednn_linear", lambda x, weight, bias: x.new_empty(len(x), len(weight)), "Meta")


def available() -> bool:
    """Whether this torch has oneDNN's linear layer as an operator."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def use_onednn(graph: fx.GraphModule) -> int:
    """Put oneDNN's product where it is the faster one, in place; how many products that were."""
    changed = 0
    for node in list(graph.graph.nodes) if available() else ():
        if node.target not in (aten.mm.default, aten.addmm.default) or node.kwargs:  # alpha, beta
            continue
        *bias, x, matrix = node.args
        if not _is_large(x.meta["val"], matrix.meta["val"]) or any(b.meta["val"].dim() != 1 for b in bias):
            continue
        with graph.graph.inserting_before(node):
            turned = graph.graph.call_function(aten.t.default, (matrix,))
            turned.meta["val"] = matrix.meta["val"].t()
            arguments = (x, turned, bias[0] if bias else None)
            product = graph.graph.call_function(torch.ops.ppl_vae.onednn_linear.default, arguments)
            product.meta.update(node.meta)
        node.replace_all_uses_with(product)
        graph.graph.erase_node(node)
        changed += 1
    if changed:
        graph.recompile()
    return changed


def _is_large(x: Tensor, matrix: Tensor) -> bool:
    columns = matrix.shape[1]
    plain = x.dtype == matrix.dtype == torch.float32 and x.device.type == "cpu"
    return plain and x.numel() * columns >= WORK and (x.stride(1) == 1 or columns >= COLUMNS)
