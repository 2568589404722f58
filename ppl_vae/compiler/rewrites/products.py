"""Matrix products and sums of columns in float32 by our own loops, on an x86 processor with AVX2 or more."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from ppl_vae.compiler import native
from ppl_vae.compiler.processor import has_avx

aten = torch.ops.aten


def own_products(graph: fx.GraphModule) -> int:
    """Put our loops in place of ATen's, in place; how many products and sums that were.

    A bias is added by the kernel that reads the product; ATen first copies it into every row of the result.
    """
    if not has_avx() or not native.expected():
        return 0
    changed = 0
    for target in (aten.mm.default, aten.addmm.default, aten.sum.dim_IntList):
        for node in graph.graph.find_nodes(op="call_function", target=target):
            if node.kwargs:  # alpha, beta, dtype
                continue
            with graph.graph.inserting_before(node):
                if target is aten.sum.dim_IntList:
                    found = _column_sums(graph.graph, *node.args)
                else:
                    *bias, a, b = node.args
                    found = _product(graph.graph, a, b, *bias)
            if found is not None:
                found.meta.update(node.meta)
                node.replace_all_uses_with(found)
                graph.graph.erase_node(node)
                changed += 1
    graph.recompile()
    return changed


def _product(graph: fx.Graph, a: fx.Node, b: fx.Node, bias: fx.Node | None = None) -> fx.Node | None:
    if not (_fits(a) and _fits(b)):
        return None
    product = graph.call_function(native.product, (a, b))
    if bias is None:
        return product
    product.meta["val"] = a.meta["val"].new_empty(len(a.meta["val"]), b.meta["val"].shape[1])
    return graph.call_function(aten.add.Tensor, (product, bias))


def _column_sums(graph: fx.Graph, x: fx.Node, dims: list[int], keepdim: bool = False) -> fx.Node | None:
    if not keepdim or dims not in ([0], [-2]) or not _fits(x):
        return None
    return graph.call_function(native.column_sums, (x,))


def _fits(node: fx.Node) -> bool:
    x = node.meta.get("val")
    if not isinstance(x, Tensor) or x.dtype != torch.float32 or x.device.type != "cpu":
        return False
    return x.dim() == 2 and x.numel() > 0
