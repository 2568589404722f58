"""What is put in place of operations of a captured graph: one ordered list, one rewrite a file.

A rewrite replaces operators while a graph is made, or changes the finished graph. `REWRITES` is the order in
which they are applied; a new one is a file beside these and a line there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import fx

from ppl_vae.capture.rewrites import biases, convolutions, matmul, noise, numerics, rounding
from ppl_vae.capture.rewrites.rounding import MatmulPrecision

__all__ = ["REWRITES", "Operators", "Rewrite", "Setting", "operators", "rewrite"]

Operators = dict[Any, Callable[..., Any]]
"""What is called in place of an operator."""


class Setting(NamedTuple):
    """What a graph is made for.

    Attributes:
        device: where it runs.
        same_noise: with the random numbers of the step as written.
        matmul_precision: of the factors of matrix products and convolutions.
        compiled: by Inductor, or run operation by operation.
    """

    device: torch.device
    same_noise: bool = True
    matmul_precision: MatmulPrecision = "float32"
    compiled: bool = True


class Rewrite(NamedTuple):
    """One rewrite: when it applies, and what it does."""

    name: str
    applies: Callable[[Setting], bool]
    operators: Callable[[Setting], Operators] | None = None
    graph: Callable[[fx.GraphModule], object] | None = None


def _on_cpu(setting: Setting) -> bool:
    return setting.device.type == "cpu"


def _compiled_on_cpu(setting: Setting) -> bool:
    return _on_cpu(setting) and setting.compiled


REWRITES = (
    Rewrite("numerics", _on_cpu, operators=lambda _: numerics.operators()),
    Rewrite("convolutions", _on_cpu, operators=lambda _: convolutions.Convolutions().operators()),
    Rewrite(
        "noise",
        lambda setting: _on_cpu(setting) and not setting.same_noise,
        operators=lambda setting: noise.Noise(setting.device).operators(),
    ),
    Rewrite(
        "rounding",
        lambda setting: setting.matmul_precision == "bf16" and not rounding.has_products(),
        graph=rounding.round_factors,
    ),
    Rewrite("biases", _compiled_on_cpu, graph=biases.unfuse_biases),
    Rewrite("matmul", _compiled_on_cpu, graph=matmul.choose_routes),
)
"""All rewrites, in the order in which they are applied."""


def operators(setting: Setting) -> Operators:
    """What `make_fx` puts in place of operators while it makes a graph;
    a later rewrite goes before an earlier one.
    """
    table: Operators = {}
    for each in REWRITES:
        if each.operators is not None and each.applies(setting):
            table |= each.operators(setting)
    return table


def rewrite(graph: fx.GraphModule, setting: Setting) -> None:
    """Change a finished graph, in place."""
    for each in REWRITES:
        if each.graph is not None and each.applies(setting):
            each.graph(graph)
