"""Scales: the map, its inverse, its ends, and the head."""

from __future__ import annotations

import math

import pytest
import torch

from ppl_vae.nets import LocScale, inverse_positive_scale, positive_scale

RANGES = [(1e-4, 1e2), (1e-3, 10.0), (0.5, 1.5), (1e-6, 1e4)]


@pytest.mark.parametrize(("floor", "cap"), RANGES)
def test_zero_gives_one_and_the_ends_hold(floor, cap) -> None:
    raw = torch.tensor([-1e4, -1e2, 0.0, 1e2, 1e4, -math.inf, math.inf])
    scale = positive_scale(raw, floor, cap)
    torch.testing.assert_close(scale[2], torch.tensor(1.0))
    torch.testing.assert_close(scale[[0, 1, 5]], torch.full((3,), floor))
    torch.testing.assert_close(scale[[3, 4, 6]], torch.full((3,), cap))


@pytest.mark.parametrize(("floor", "cap"), RANGES)
def test_strictly_increasing_with_the_documented_gradient(floor, cap) -> None:
    raw = torch.linspace(-12, 12, 500, dtype=torch.float64, requires_grad=True)
    scale = positive_scale(raw, floor, cap)
    assert (scale.diff() > 0).all()
    (gradient,) = torch.autograd.grad(scale.sum(), raw)
    expected = (scale - floor) * (cap - scale) / (cap - floor)
    torch.testing.assert_close(gradient, expected.detach())


def test_raw_is_a_log_scale_away_from_the_ends() -> None:
    raw = torch.linspace(-5, 1, 50, requires_grad=True)
    (slope,) = torch.autograd.grad(positive_scale(raw).log().sum(), raw)
    assert slope.min() > 0.95
    assert slope.max() < 1


def test_float32_is_as_accurate_as_float32_can_be() -> None:
    raw = torch.linspace(-20, 20, 4001)
    error = positive_scale(raw).double() / positive_scale(raw.double()) - 1
    assert error.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_and_keeps_the_floor(dtype) -> None:
    scale = positive_scale(torch.tensor([-1e4, 0.0], dtype=dtype), 1e-3, 10.0)
    assert scale.dtype == torch.float32
    torch.testing.assert_close(scale, torch.tensor([1e-3, 1.0]))
    assert positive_scale(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("raw", [-1e4, 1e4])
def test_no_nan_gradient_at_huge_outputs(raw) -> None:
    raw = torch.tensor(raw, requires_grad=True)
    positive_scale(raw).log().backward()
    assert raw.grad == 0


@pytest.mark.parametrize(("floor", "cap"), RANGES)
def test_the_inverse_inverts(floor, cap) -> None:
    raw = torch.linspace(-3, 3, 50, dtype=torch.float64)
    torch.testing.assert_close(inverse_positive_scale(positive_scale(raw, floor, cap), floor, cap), raw)


@pytest.mark.parametrize("scale", [1e-4, 100.0, 0.0, math.nan])
def test_the_inverse_refuses_what_no_output_gives(scale) -> None:
    with pytest.raises(ValueError, match=r"strictly between the floor 0\.0001 and the cap 100"):
        inverse_positive_scale(torch.tensor([1.0, scale], dtype=torch.float64))


@pytest.mark.parametrize(
    ("floor", "cap"), [(0.0, 10.0), (-1.0, 10.0), (1.0, 10.0), (0.1, 1.0), (0.1, math.inf), (math.nan, 2)]
)
def test_a_range_without_one_inside_is_refused(floor, cap) -> None:
    with pytest.raises(ValueError, match=r"0 < floor < 1 < cap < infinity.*got floor="):
        positive_scale(torch.zeros(2), floor, cap)
    with pytest.raises(ValueError, match=r"0 < floor < 1 < cap < infinity.*got floor="):
        LocScale(3, 2, min_scale=floor, max_scale=cap)


def test_the_head_can_hold_the_scale_constant_in_x() -> None:
    head = LocScale(num_features=6, latent_dim=2)
    with torch.no_grad():
        head.linear.weight[2:] = 0
        head.linear.bias[2:] = inverse_positive_scale(torch.tensor([0.5, 2.0]))
    features = torch.randn(50, 6)
    raw = head.linear(features)[:, 2:]
    assert (raw == raw[0]).all()
    loc, scale = head(features)
    torch.testing.assert_close(scale, torch.tensor([0.5, 2.0]).expand(50, 2))
    assert (loc != loc[0])[1:].all()


def test_location_and_scale_are_initialised_as_two_maps() -> None:
    head = LocScale(num_features=200, latent_dim=50)
    bound = math.sqrt(6 / (200 + 50))
    for half in head.linear.weight.chunk(2):
        assert 0.99 * bound < half.abs().max() <= bound


def test_features_of_another_width_name_the_fix() -> None:
    with pytest.raises(ValueError, match=r"\(\*batch, 6\), got \(3, 5\).*num_features=5"):
        LocScale(6, 2)(torch.zeros(3, 5))
