"""oneDNN's matrix product as an operator of its own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppl_vae.capture.graph import lower
from ppl_vae.capture.rewrites import matmul
from ppl_vae.capture.rewrites.matmul import available, use_onednn

pytestmark = pytest.mark.skipif(not available(), reason="this torch has no oneDNN linear layer")


def test_onednns_product_is_the_product():
    x, matrix, bias = torch.randn(5, 7), torch.randn(7, 3), torch.randn(3)
    torch.testing.assert_close(torch.ops.ppl_vae.onednn_linear(x, matrix.t(), bias), x @ matrix + bias)
    torch.testing.assert_close(torch.ops.ppl_vae.onednn_linear(matrix.t(), x, None), matrix.t() @ x.t())


def test_a_graph_with_other_products_is_the_same_function(monkeypatch):
    monkeypatch.setattr(matmul, "WORK", 0)
    monkeypatch.setattr(matmul, "COLUMNS", 0)
    x, weight, bias = torch.randn(5, 7), torch.randn(3, 7), torch.randn(3)

    def products(tensors):
        x, weight, bias = tensors
        return [
            *[x @ weight.t(), nn.functional.linear(x, weight, bias), weight.t() @ weight],
            *[torch.addmm(bias, x, weight.t(), alpha=2), torch.addmm(x[:, :3], x, weight.t())],
            x.double() @ weight.t().double(),
        ]

    graph = lower(products, [x, weight, bias], torch.device("cpu"))
    expected = graph(x, weight, bias)
    assert use_onednn(graph) == 3
    torch.testing.assert_close(graph(x, weight, bias), expected)


@pytest.mark.parametrize(
    ("rows", "inner", "columns", "turned", "count"),
    [(128, 784, 400, False, 1), (20, 200, 200, False, 0), (400, 1000, 20, True, 0), (784, 128, 400, True, 1)],
)
def test_products_are_chosen_by_their_shapes(rows, inner, columns, turned, count):
    x = torch.zeros(inner, rows).t() if turned else torch.zeros(rows, inner)
    inputs = [x, torch.zeros(inner, columns)]
    graph = lower(lambda tensors: [tensors[0] @ tensors[1]], inputs, torch.device("cpu"))
    assert use_onednn(graph) == count
