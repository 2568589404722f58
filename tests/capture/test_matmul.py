"""oneDNN's matrix product as an operator of its own."""

from __future__ import annotations

import pytest
import torch

from ppl_vae.capture import matmul
from ppl_vae.capture.graph import trace
from ppl_vae.capture.matmul import available, choose_routes


@pytest.mark.skipif(not available(), reason="this torch has no oneDNN linear layer")
def test_onednns_product_is_the_product():
    x, matrix, bias = torch.randn(5, 7), torch.randn(7, 3), torch.randn(3)
    torch.testing.assert_close(torch.ops.ppl_vae.onednn_linear(x, matrix.t(), bias), x @ matrix + bias)
    torch.testing.assert_close(torch.ops.ppl_vae.onednn_linear(matrix.t(), x, None), matrix.t() @ x.t())


@pytest.mark.skipif(not available(), reason="this torch has no oneDNN linear layer")
def test_a_graph_with_the_other_product_is_the_same_function(monkeypatch):
    monkeypatch.setattr(matmul, "_time", lambda *arguments: True)
    monkeypatch.setattr(matmul, "_routes", {})
    x, weight, bias = torch.randn(5, 7), torch.randn(3, 7), torch.randn(3)
    graph = trace(
        lambda tensors: [tensors[0] @ tensors[1].t(), torch.addmm(tensors[2], tensors[0], tensors[1].t())],
        [x, weight, bias],
        torch.device("cpu"),
    )
    expected = graph(x, weight, bias)
    assert choose_routes(graph) == 2
    torch.testing.assert_close(graph(x, weight, bias), expected)
