"""What is put in place of operations of a graph: one rewrite a file, in the order that stands here.

A rewrite replaces operators while a graph is made (`operators`), or changes the finished graph (`rewrite`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import fx

from ppl_vae.compiler import native
from ppl_vae.compiler.rewrites import convolutions, divisions, indices, noise, numerics, products, rules
from ppl_vae.compiler.rewrites.rounding import MatmulPrecision

__all__ = ["Backend", "Operators", "Setting", "operators", "rewrite"]

Backend = Literal["inductor", "graph"]
"""What runs a graph: compiled, or operation by operation."""
Operators = dict[Any, Callable[..., Any]]
"""What is called in place of an operator."""


class Setting(NamedTuple):
    """What a graph is made for.

    Attributes:
        device: where it runs.
        same_noise: with torch's random numbers, those of the program as written; else on a CPU with those of
            `noise` and on a GPU with Inductor's own, several times as fast.
        matmul_precision: of the factors of matrix products and convolutions, see `rounding`.
        backend: "inductor" compiles; "graph" runs the traced operations one by one.
    """

    device: torch.device
    same_noise: bool = True
    matmul_precision: MatmulPrecision = "float32"
    backend: Backend = "inductor"

    @property
    def on_cpu(self) -> bool:
        """Whether the processor runs it."""
        return self.device.type == "cpu"

    @property
    def compiles_for_cpu(self) -> bool:
        """Whether that is a processor's code."""
        return self.on_cpu and self.backend == "inductor"


def operators(setting: Setting) -> Operators:
    """What `make_fx` puts in place of operators while it makes a graph."""
    table = noise.torchs(setting.same_noise)
    if not setting.on_cpu:
        return table
    table |= numerics.operators() | divisions.operators() | rules.operators()
    table |= convolutions.Convolutions().operators()
    if not setting.same_noise and native.expected():
        table |= noise.Noise(setting.device).operators()
    return table


def rewrite(graph: fx.GraphModule, setting: Setting) -> None:
    """Change a finished graph, in place."""
    if setting.compiles_for_cpu:
        indices.look_before(graph)
        if setting.matmul_precision == "float32":
            products.own_products(graph)
