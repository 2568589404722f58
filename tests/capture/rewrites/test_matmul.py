"""oneDNN's matrix product as an operator of its own."""

from __future__ import annotations

import pytest
import torch

from ppl_vae.capture.graph import lower
from ppl_vae.capture.rewrites import matmul, routes
from ppl_vae.capture.rewrites.matmul import available, choose_routes


@pytest.mark.skipif(not available(), reason="this torch has no oneDNN linear layer")
def test_onednns_product_is_the_product():
    x, matrix, bias = torch.randn(5, 7), torch.randn(7, 3), torch.randn(3)
    torch.testing.assert_close(torch.ops.ppl_vae.onednn_linear(x, matrix.t(), bias), x @ matrix + bias)
    torch.testing.assert_close(torch.ops.ppl_vae.onednn_linear(matrix.t(), x, None), matrix.t() @ x.t())


@pytest.mark.skipif(not available(), reason="this torch has no oneDNN linear layer")
def test_a_graph_with_the_other_product_is_the_same_function(monkeypatch, tmp_path):
    monkeypatch.setattr(matmul, "_time", lambda *arguments: True)
    monkeypatch.setattr(routes, "_chosen", {})
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    x, weight, bias = torch.randn(5, 7), torch.randn(3, 7), torch.randn(3)
    graph = lower(
        lambda tensors: [tensors[0] @ tensors[1].t(), torch.addmm(tensors[2], tensors[0], tensors[1].t())],
        [x, weight, bias],
        torch.device("cpu"),
    )
    expected = graph(x, weight, bias)
    assert choose_routes(graph) == 2
    torch.testing.assert_close(graph(x, weight, bias), expected)


def test_a_choice_is_made_once_on_a_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(routes, "_chosen", {})
    key = routes.key_of(torch.ones(5, 7), torch.ones(7, 3), True)
    assert routes.choice(key) is None
    routes.keep(key, True)
    for remembered in ({}, {key: False}):  # another process; one that resumed a training
        monkeypatch.setattr(routes, "_chosen", dict(remembered))
        monkeypatch.setattr(routes, "_read", set())
        assert routes.choice(key) is (not remembered)


def test_a_damaged_file_of_choices_is_as_none(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(routes, "_chosen", {})
    (tmp_path / "ppl_vae").mkdir()
    (tmp_path / "ppl_vae" / "products.json").write_text("{")
    assert routes.choice("any") is None
