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


@pytest.mark.parametrize("rows", [1, 7, 97, 1000])  # a prime number makes one long row of pixels
def test_onednns_gradient_of_weights_is_a_product_and_the_same_each_time(rows: int) -> None:
    gradient, x = torch.randn(rows, 30), torch.randn(rows, 17)
    found = [torch.ops.ppl_vae.onednn_weights(gradient, x) for _ in range(5)]
    assert found[0].is_contiguous()
    torch.testing.assert_close(found[0], gradient.t() @ x, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.skipif(not available(), reason="this torch has no oneDNN linear layer")
@pytest.mark.parametrize("route", ["linear", "weights"])
def test_a_graph_with_other_products_is_the_same_function(monkeypatch, tmp_path, route):
    def choose(x, matrix, has_bias):
        return route if route == "linear" or x.stride(0) == 1 else "aten"

    monkeypatch.setattr(matmul, "_time", choose)
    monkeypatch.setattr(routes, "_chosen", {})
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    x, weight, bias = torch.randn(5, 7), torch.randn(3, 7), torch.randn(3)

    def products(tensors):
        x, weight, bias = tensors
        return [x @ weight.t(), torch.addmm(bias, x, weight.t()), weight.t() @ weight]

    graph = lower(products, [x, weight, bias], torch.device("cpu"))
    expected = graph(x, weight, bias)
    assert choose_routes(graph) == (3 if route == "linear" else 1)
    torch.testing.assert_close(graph(x, weight, bias), expected)


def test_a_choice_is_made_once_on_a_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(routes, "_chosen", {})
    key = routes.key_of(torch.ones(5, 7), torch.ones(7, 3), True)
    assert routes.choice(key) is None
    routes.keep(key, "linear")
    for remembered in ({}, {key: "aten"}):  # another process; one that resumed a training
        monkeypatch.setattr(routes, "_chosen", dict(remembered))
        monkeypatch.setattr(routes, "_read", set())
        assert routes.choice(key) == ("aten" if remembered else "linear")
    routes.remember({key: True})  # of a checkpoint from when there were two
    assert routes.choice(key) == "linear"


def test_a_damaged_file_of_choices_is_as_none(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(routes, "_chosen", {})
    (tmp_path / "ppl_vae").mkdir()
    (tmp_path / "ppl_vae" / "products.json").write_text("{")
    assert routes.choice("any") is None
