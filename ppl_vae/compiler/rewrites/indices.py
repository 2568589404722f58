"""Indices that may be out of range, looked at before the loops that read by them.

Inductor looks at each within its loops, whose error ends the process where several threads share them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, fx

from ppl_vae.compiler import native

aten = torch.ops.aten

_NONE = -(2**62)  # a number that is never excepted: it would be out of range of whatever there is
_SEVERAL = {"index", "index_put", "index_put_", "_index_put_impl_"}
_ALONG = {"gather", "index_select", "index_add", "index_copy", "index_fill"}
_ALONG |= {"scatter", "scatter_add", "scatter_reduce"}
_FLAT = {"take", "put"}
_ROWS = {"embedding", "embedding_dense_backward"}
_UNPOOLED = {"max_unpool2d", "max_unpool3d"}
_MARGINS = {"multi_margin_loss": 0, "multilabel_margin_loss_forward": -1}
_LOSSES = {"nll_loss_forward": 0, "nll_loss2d_forward": 0, "nll_loss_backward": 1, "nll_loss2d_backward": 1}
KNOWN = {*_SEVERAL, *_ALONG, *_FLAT, *_ROWS, *_UNPOOLED, *_MARGINS, *_LOSSES}
"""The operations whose indices are looked at."""
_VIEWS = {"view", "_unsafe_view", "reshape", "expand", "unsqueeze", "squeeze", "permute", "transpose", "t"}
_VIEWS |= {"slice", "select", "clone", "alias", "detach"}


class _Read(NamedTuple):
    """An index of an operation: its place, and the numbers that are right."""

    node: fx.Node
    low: int
    high: int
    but: int = _NONE


def look_before(graph: fx.GraphModule) -> int:
    """Have indices looked at before they are used, in place; how many are.

    What was looked at is used plus 0, which comes of it.
    """
    if not native.expected():
        return 0
    nodes = [node for node in graph.graph.nodes if _name(node)]
    still = not any(node.target._schema.is_mutable for node in nodes)
    looked: dict[_Read, fx.Node] = {}
    count = 0
    for node in nodes:
        if node.target._schema.is_mutable:
            looked.clear()
        now: dict[fx.Node, fx.Node] = {}
        for read in _reads(node):
            if still and read.low <= 0 and _below(read.node) <= read.high:
                continue
            read = read._replace(node=now.get(read.node, read.node))
            if read not in looked:
                looked[read] = _looked(graph.graph, read, node)
                count += 1
            node.replace_input_with(read.node, looked[read])
            now[read.node] = looked[read]
    graph.recompile()
    return count


def _looked(graph: fx.Graph, read: _Read, before: fx.Node) -> fx.Node:
    index = read.node.meta["val"]
    with graph.inserting_before(before):
        zero = graph.call_function(native.within, tuple(read))
        found = graph.call_function(aten.add.Tensor, (read.node, zero))
    zero.meta["val"], found.meta["val"] = index.new_empty((), dtype=torch.int64), index
    return found


def _reads(node: fx.Node) -> list[_Read]:
    """The indices that an operation takes."""
    name, args = _name(node), cast(Any, node.args)
    first = _value(args[0]) if args else None
    if first is None:
        return []
    found, sizes = [], first.shape
    if name in _SEVERAL:
        found = [_Read(each, -size, size) for each, size in zip(args[1], sizes)]
    elif name.rstrip("_") in _ALONG:
        size = sizes[args[1]] if sizes else 1
        found = [_Read(args[2], -size if name.startswith("index_fill") else 0, size)]
    elif name.rstrip("_") in _FLAT:
        found = [_Read(args[1], -sizes.numel(), sizes.numel())]
    elif name in _ROWS:
        found = [_Read(args[1], 0, sizes[0] if name == "embedding" else args[2])]
    elif name in _UNPOOLED:
        found = [_Read(args[1], 0, math.prod(args[2]))]
    elif name in _MARGINS:
        found = [_Read(args[1], _MARGINS[name], [1, *sizes][-1])]
    elif name in _LOSSES:
        scores, target, _, _, but = args[_LOSSES[name] :][:5]
        shape = scores.meta["val"].shape
        found = [_Read(target, 0, shape[min(1, len(shape) - 1)], but)]
    return [each for each in found if _fits(each.node) and each.node is not args[0]]


def _name(node: fx.Node) -> str:
    """An operation of torch's, without what it is for; nothing for others."""
    target = node.target
    ours = isinstance(target, torch._ops.OpOverload) and target.namespace == "aten"
    return str(cast(Any, target).overloadpacket.__name__) if ours else ""


def _value(node: Any) -> Tensor | None:
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return value if isinstance(value, Tensor) else None


def _fits(node: Any) -> bool:
    value = _value(node)
    return value is not None and value.dtype in (torch.int32, torch.int64) and value.device.type == "cpu"


def _below(node: Any) -> float:
    """What an index that is not negative is surely below: one that was drawn, or counted."""
    while name := _name(node):
        args: Any = node.args
        if name == "multinomial":
            return args[0].meta["val"].shape[-1]
        if name == "argmax" and len(args) > 1 and args[1] is not None:
            return ([*args[0].meta["val"].shape] or [1])[args[1]]
        if name == "randperm" or node.target == aten.arange.default:
            return args[0]
        if name not in _VIEWS:
            break
        node = args[0]
    return torch.inf
