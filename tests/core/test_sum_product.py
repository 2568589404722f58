"""SumProduct: against sums over every combination, in plates and without."""

from __future__ import annotations

import pytest
import torch

from ppl_vae.core.sum_product import Factor, SumProduct, chosen, components

pytestmark = pytest.mark.usefixtures("double")

SIZES = {"a": 2, "b": 3, "c": 4, "plate": 5, "data": 6}


def factor(*dims):
    return Factor(torch.randn([SIZES[dim] for dim in dims]), dims)


def algebra(**plates):
    inner = {name: frozenset(plates.get(name, ())) for name in ("a", "b", "c")}
    return SumProduct(inner, SIZES, frozenset({"data"}))


def test_a_chain_is_a_product_of_matrices():
    first, second, third = factor("data", "a"), factor("a", "b"), factor("c", "b")
    total = algebra().total([third, first, second])
    assert total.dims == ("data",)
    expected = torch.einsum("na,ab,cb->n", *(each.table.exp() for each in (first, second, third))).log()
    torch.testing.assert_close(total.table, expected)


def test_what_is_kept_is_not_summed():
    joint = factor("b", "data", "a")
    left = algebra().total([joint, factor("a")], but=["b"])
    assert set(left.dims) == {"b", "data"}


def test_in_a_plate_the_product_over_the_slices_comes_before_the_sum_outside():
    outer, inner = factor("a"), factor("data", "plate", "a", "b")
    total = algebra(b=["plate"]).total([inner, outer])
    slices = inner.table.exp().sum(-1).prod(1)
    torch.testing.assert_close(total.table, (slices @ outer.table.exp()).log())


def test_what_can_be_summed_for_good_is():
    kept = algebra(b=["plate"])
    factors = [factor("a"), factor("plate", "a", "b")]
    assert [each.dims for each in kept.finished(factors, ["a"])] == [("a",), ("plate", "a", "b")]
    (left,) = kept.finished(factors, ["a", "b"])
    assert left.dims == ()


def test_impossible_values_have_no_gradient_and_no_nan():
    table = torch.tensor([[0.0, -torch.inf], [-torch.inf, -torch.inf]], requires_grad=True)
    other = torch.zeros(2, requires_grad=True)
    total = SumProduct({"a": frozenset(), "b": frozenset()}, {"a": 2, "b": 2}, frozenset()).total(
        [Factor(table, ("a", "b")), Factor(other, ("a",))]
    )
    total.table.backward()
    assert total.table == 0
    torch.testing.assert_close(table.grad, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert other.grad.isfinite().all()


def test_factors_that_share_a_variable_stand_together():
    factors = {"one": factor("a"), "two": factor("c"), "three": factor("b", "a"), "four": factor("data", "b")}
    assert components(factors, {"a", "b", "c"}) == [["two"], ["one", "three", "four"]]


def test_chosen_values_of_a_variable():
    table, index = factor("a", "b"), torch.randint(0, 2, (6,))
    picked = chosen(table, "a", Factor(index, ("data",)))
    assert picked.dims == ("b", "data")
    torch.testing.assert_close(picked.table, table.table[index].T)
    assert chosen(table, "c", Factor(index, ("data",))) is table
