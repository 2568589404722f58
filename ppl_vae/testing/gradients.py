"""Which parameters a loss hangs on: those of a pair, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError


def check_owned(pair: Pair, batch: Sequence[Tensor], loss: Tensor) -> None:
    """Raise PairError where a loss hangs on parameters that no training of the pair would move."""
    own = {id(tensor) for tensor in (*pair.parameters(), *batch)}
    # a tensor that is no parameter may have been made in the run, by a guide that optimises for instance
    others = [leaf for leaf in leaves(loss) if id(leaf) not in own and isinstance(leaf, nn.Parameter)]
    if others:
        shapes = ", ".join(str(list(leaf.shape)) for leaf in others[:6])
        raise PairError(
            f"the loss hangs on {len(others)} parameters that do not belong to the pair, of "
            f"shapes {shapes}, and no training would move them. Name their net in the program, "
            "pyro.module('net', net), or make them by pyro.param; in a Module keep layers as attributes, "
            "lists of them as nn.ModuleList. What is to stay as it is: tensor.requires_grad_(False)"
        )


def leaves(*tensors: Tensor) -> list[Tensor]:
    """The tensors with `requires_grad` that these were computed from."""
    found: dict[int, Tensor] = {}
    seen: set[Any] = set()
    waiting: list[Any] = []
    for tensor in tensors:
        if tensor.requires_grad and tensor.grad_fn is None:
            found[id(tensor)] = tensor
        waiting.append(tensor.grad_fn)
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            found[id(leaf)] = leaf
        waiting += [following for following, _ in node.next_functions]
    return list(found.values())


def baseline_parameters(trace: Trace) -> set[int]:
    """The ids of what only the baselines of Pyro's `TraceGraph_ELBO` are trained with."""
    found: set[int] = set()
    for site in trace.nodes.values():
        given = site["infer"].get("baseline") if site["type"] == "sample" else None
        for part in (given or {}).values():
            if isinstance(part, nn.Module):
                found |= {id(parameter) for parameter in part.parameters()}
            elif isinstance(part, Tensor):
                found |= {id(leaf) for leaf in leaves(part)}
    return found
