"""Biases of linear layers, added by the kernel that reads the product."""

from __future__ import annotations

import torch
from torch import fx

aten = torch.ops.aten


def unfuse_biases(graph: fx.GraphModule) -> None:
    """Biases of linear layers added by the kernel that reads the product, where that costs nothing, in place.

    ATen's product with a bias first copies the bias into every row of the result.
    """
    for node in graph.graph.find_nodes(op="call_function", target=aten.addmm.default):
        bias, x, matrix = node.args
        if node.kwargs or node.meta["val"].device.type != "cpu" or bias.meta["val"].dim() != 1:
            continue
        with graph.graph.inserting_before(node):
            product = graph.graph.call_function(aten.mm.default, (x, matrix))
            product.meta.update(node.meta)
            # less the negative, since Inductor would make one operator of a product and a sum again
            negative = graph.graph.call_function(aten.neg.default, (bias,))
            negative.meta["val"] = bias.meta["val"]
            total = graph.graph.call_function(aten.sub.Tensor, (product, negative))
            total.meta.update(node.meta)
        node.replace_all_uses_with(total)
        graph.graph.erase_node(node)
    graph.recompile()
