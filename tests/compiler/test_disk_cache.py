"""Compiled graphs on the disk: the next process compiles nothing that one before it has compiled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from ppl_vae.compiler.graph import compile_graph, lower
from ppl_vae.compiler.rewrites import Setting
from tests.capture.helpers import needs_compiler


def function(inputs: list[Tensor]) -> list[Tensor]:
    x, weight, bias = inputs
    return [torch.nn.functional.softplus(x @ weight + bias).sum(0)]


@needs_compiler
@pytest.mark.slow
def test_a_graph_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    inputs = [torch.randn(5, 3), torch.randn(3, 4), torch.randn(4)]
    found = []
    for _ in range(2):
        hits = counters["inductor"]["fxgraph_cache_hit"]
        graph = lower(function, inputs, torch.device("cpu"))
        compiled = compile_graph(graph, inputs, Setting(torch.device("cpu")))
        found.append(counters["inductor"]["fxgraph_cache_hit"] - hits)
        torch.testing.assert_close(compiled(*inputs)[0], function(inputs)[0])
    assert found == [0, 1]
