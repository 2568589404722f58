"""The formulas that take the place of log1p and log-sigmoid."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from ppl_vae.compiler.denormals import without_denormals
from ppl_vae.compiler.graph import lower
from ppl_vae.compiler.rewrites import Setting, operators
from ppl_vae.compiler.rewrites.numerics import atanh, log1p, tanh


def test_log1p_is_exact_to_rounding():
    x = torch.cat([torch.logspace(-30, 30, 400), -torch.logspace(-30, -1e-3, 400), torch.zeros(1)])
    expected = x.double().log1p()
    error = (log1p(x).double() - expected).abs() / expected.abs().clamp_min(1e-38)
    assert error.max() < 4e-7
    assert log1p(torch.tensor(float("inf"))) == float("inf")
    assert log1p(torch.tensor(-1.0)) == -float("inf")


def test_atanh_is_exact_near_zero_too():
    x = torch.cat([torch.logspace(-30, -1e-3, 400), -torch.logspace(-30, -1e-3, 400)])
    expected = x.double().atanh()
    assert ((atanh(x).double() - expected) / expected).abs().max() < 5e-7
    edges = torch.tensor([0.0, -0.0, 1.0, -1.0, 1.5, torch.nan])
    torch.testing.assert_close(atanh(edges), edges.atanh(), rtol=0, atol=0, equal_nan=True)
    assert atanh(torch.tensor(-0.0)).signbit()


def test_tanh_is_right_to_its_rounding_and_never_above_one():
    x = torch.cat([torch.linspace(-12, 12, 100_001), torch.logspace(-30, 0, 1000)])
    expected = x.double().tanh()
    error = (tanh(x).double() - expected).abs() / expected.abs().clamp_min(1e-38)
    assert error.max() < 4e-7
    assert tanh(x).abs().max() <= 1
    assert tanh(torch.tensor([float("inf"), -float("inf"), -0.0])).tolist() == [1, -1, 0]
    assert tanh(torch.tensor(float("nan"))).isnan()
    assert tanh(x.double()) is NotImplemented  # torch's own


def test_log_sigmoid_and_its_gradient():
    table = operators(Setting(torch.device("cpu")))
    forward, backward = (
        table[op]
        for op in (torch.ops.aten.log_sigmoid_forward.default, torch.ops.aten.log_sigmoid_backward.default)
    )
    x = torch.linspace(-100, 100, 4001, dtype=torch.float64, requires_grad=True)
    value, buffer = forward(x.detach())
    expected = nn.functional.logsigmoid(x)
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(
        backward(torch.ones_like(value), x.detach(), buffer), gradient, rtol=1e-12, atol=0
    )
    assert backward(torch.ones(1), torch.zeros(1), torch.ones(1)) == 0.5


EXTREMES = torch.tensor(
    [-torch.inf, -1e30, -3, -1, -1 - 1e-6, -0.5, -1e-4, -0.0, 0, 1e-7, 1, 9, 89, 1e30, torch.inf, torch.nan]
)
FORMULAS = [
    torch.log1p,
    torch.tanh,
    lambda x: torch.logaddexp(x[:, None], x),
    nn.functional.logsigmoid,
    nn.functional.softplus,
    lambda x: nn.functional.softplus(x, 2.5, 10.0),
    lambda x: nn.functional.binary_cross_entropy_with_logits(x, torch.full_like(x, 0.25), reduction="none"),
]
KINDS = [
    *((dtype, EXTREMES, len(FORMULAS)) for dtype in (torch.float32, torch.float64)),
    *((dtype, EXTREMES, len(FORMULAS)) for dtype in (torch.float16, torch.bfloat16)),
    *((dtype, torch.tensor([0, 1, 2, 127, 255]), 2) for dtype in (torch.uint8, torch.int64, torch.bool)),
    (torch.complex64, torch.complex(EXTREMES[:, None].expand(-1, 16), EXTREMES.expand(16, -1)).flatten(), 3),
]


@pytest.mark.parametrize(("dtype", "values", "count"), KINDS, ids=lambda each: str(each)[:15])
def test_they_are_torchs_for_each_kind_of_number_and_at_infinity(dtype, values, count):
    x = values.to(dtype)
    for number, formula in enumerate(FORMULAS[:count]):
        graph = lower(lambda tensors, formula=formula: [formula(tensors[0])], [x], torch.device("cpu"))
        named = functools.partial("formula {}: {}".format, number)
        torch.testing.assert_close(graph(x)[0], formula(x), equal_nan=True, msg=named)


def test_denormals_are_zero_inside_and_as_before_outside():
    small = torch.tensor([1e-38])
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush denormal numbers")
    with without_denormals():
        assert (small * 0.1).item() == 0
        with without_denormals():
            pass
        assert (small * 0.1).item() == 0
    assert (small * 0.1).item() > 0
