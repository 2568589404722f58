"""Our own products and sums of columns against float64, for all shapes and orders in memory."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from ppl_vae.compiler import native
from ppl_vae.compiler.graph import lower
from ppl_vae.compiler.processor import has_avx
from ppl_vae.compiler.rewrites.products import own_products


@pytest.fixture(autouse=True)
def there() -> None:
    if not has_avx() or native.library() is None:
        pytest.skip("this processor or compiler has no products of ours")


def in_order(rows: int, columns: int, order: str) -> torch.Tensor:
    """Random numbers, in memory by rows, by columns, in a wider matrix, with gaps, or one row for all."""
    if order == "columns":
        return torch.randn(columns, rows).t()
    if order == "wider":
        return torch.randn(rows, columns + 3)[:, 1 : columns + 1]
    if order == "gaps":
        return torch.randn(rows, 2 * columns)[:, ::2]
    if order == "one":
        return torch.randn(1, columns).expand(rows, columns)
    return torch.randn(rows, columns)


ORDERS = ["rows", "columns", "wider", "gaps", "one"]


@pytest.mark.parametrize("orders", list(product(ORDERS, ORDERS)), ids="-".join)
def test_a_product_is_the_product(orders: tuple[str, str]) -> None:
    sizes = [(1, 1, 1), (3, 5, 2), (8, 48, 16), (13, 33, 70), (20, 784, 7), (97, 31, 50), (64, 17, 2100)]
    for rows, columns, inner in sizes:
        a, b = in_order(rows, inner, orders[0]), in_order(inner, columns, orders[1])
        found = torch.ops.ppl_vae.product(a, b)
        assert found.is_contiguous()
        torch.testing.assert_close(found.double(), a.double() @ b.double(), rtol=1e-5, atol=1e-5 * inner**0.5)


@pytest.mark.parametrize("order", ORDERS)
def test_sums_of_columns_are_the_sums(order: str) -> None:
    for rows, columns in [(1, 1), (5, 64), (300, 7), (128, 784)]:
        x = in_order(rows, columns, order)
        found = torch.ops.ppl_vae.column_sums(x)
        torch.testing.assert_close(found, x.sum(0, keepdim=True), rtol=1e-5, atol=1e-5 * rows**0.5)


def test_a_result_does_not_hang_on_the_number_of_threads() -> None:
    a, b, before = torch.randn(300, 1500), torch.randn(1500, 70), torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append((torch.ops.ppl_vae.product(a, b), torch.ops.ppl_vae.column_sums(a)))
    torch.set_num_threads(before)
    assert all(torch.equal(one, two) for each in found[1:] for one, two in zip(found[0], each, strict=True))


def test_nan_and_infinities_stay_where_they_are() -> None:
    a, b = torch.zeros(9, 20), torch.zeros(20, 50)
    a[2, 3], a[4, 5] = torch.nan, torch.inf
    b[5] = 1
    found = torch.ops.ppl_vae.product(a, b)
    assert found[2].isnan().all()
    assert (found[4] == torch.inf).all()
    assert found[[0, 1, 3, 5, 6, 7, 8]].eq(0).all()
    assert torch.ops.ppl_vae.column_sums(a)[0, 3].isnan()


def test_threads_of_python_do_not_share_what_is_packed() -> None:
    from concurrent.futures import ThreadPoolExecutor

    pairs = [(torch.randn(60, 200), torch.randn(200, 90)) for _ in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: torch.ops.ppl_vae.product(*pair), pairs))
    for (a, b), each in zip(pairs, found, strict=True):
        torch.testing.assert_close(each, a @ b, rtol=1e-4, atol=1e-4)


def test_a_graph_with_our_products_is_the_same_function() -> None:
    x, weight, bias = torch.randn(5, 7), torch.randn(3, 7), torch.randn(3)

    def products(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        x, weight, bias = tensors
        linear = torch.addmm(bias, x, weight.t())
        return [x @ weight.t(), linear, weight.t() @ weight, linear.sum(0, keepdim=True), x.sum([-2], True)]

    graph = lower(products, [x, weight, bias], torch.device("cpu"))
    expected = graph(x, weight, bias)
    assert own_products(graph) == 5
    torch.testing.assert_close(graph(x, weight, bias), expected)


def test_what_is_not_ours_stays_as_it_is() -> None:
    x, weight = torch.randn(5, 7), torch.randn(7, 3)

    def others(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        x, weight = tensors
        return [
            x.double() @ weight.double(),
            torch.addmm(weight[:1], x, weight, alpha=2.0),
            x[:0] @ weight,
            x.sum(0),
            x.sum(1, keepdim=True),
            x.sum((0, 1), keepdim=True),
            torch.stack([x, x]).sum(0, keepdim=True),
        ]

    graph = lower(others, [x, weight], torch.device("cpu"))
    expected = graph(x, weight)
    assert own_products(graph) == 0
    torch.testing.assert_close(graph(x, weight), expected)


def test_a_long_sum_rounds_about_as_torchs() -> None:
    a, b = torch.rand(40, 20_000), torch.rand(20_000, 50)
    exact = a.double() @ b.double()
    ours, torchs = (
        (each - exact).square().mean().sqrt() for each in (torch.ops.ppl_vae.product(a, b), a @ b)
    )
    assert ours < 4 * torchs
    sums = torch.ops.ppl_vae.column_sums(b)
    torch.testing.assert_close(sums.double(), b.double().sum(0, keepdim=True), rtol=2e-6, atol=0)


def test_no_room_for_a_product_is_an_error() -> None:
    row = torch.ones(1, 1).expand(1, 2**30)
    with pytest.raises(RuntimeError, match="out of memory"):
        torch.ops.ppl_vae.product(row.t(), row)
    x, times = torch.randn(4, 3), torch.eye(3)
    torch.testing.assert_close(torch.ops.ppl_vae.product(x, times), x)
