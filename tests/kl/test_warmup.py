"""Weights and warm-ups: their values through a training, and what they refuse."""

from __future__ import annotations

import math

import pytest

from ppl_vae.kl import Beta, CosineWarmup, CyclicWarmup, LinearWarmup, SigmoidWarmup


def test_a_linear_warm_up_is_a_straight_line():
    warmup = LinearWarmup(epochs=10, weight=2.0, start=0.5)
    assert [warmup.at(epoch) for epoch in (0, 5, 10, 99)] == pytest.approx([0.5, 1.25, 2.0, 2.0])


def test_a_cosine_warm_up_is_half_a_cosine():
    warmup = CosineWarmup(epochs=4, weight=3.0, start=1.0)
    expected = [1.0, 2.0 - math.sqrt(0.5), 2.0, 3.0, 3.0]
    assert [warmup.at(epoch) for epoch in (0, 1, 2, 4, 9)] == pytest.approx(expected)


def test_a_sigmoid_warm_up_is_a_logistic_curve_that_reaches_its_ends():
    warmup = SigmoidWarmup(epochs=8, weight=2.0, start=1.0, steepness=6.0)
    assert [warmup.at(epoch) for epoch in (0, 4, 8, 20)] == pytest.approx([1.0, 1.5, 2.0, 2.0])

    def logistic(t):
        return 1 / (1 + math.exp(-6 * (t / 8 - 0.5)))

    rise = (warmup.at(3) - warmup.at(1)) / (warmup.at(7) - warmup.at(1))
    assert rise == pytest.approx((logistic(3) - logistic(1)) / (logistic(7) - logistic(1)))


def test_a_cyclic_warm_up_rises_anew_in_each_cycle_and_then_stays():
    warmup = CyclicWarmup(epochs=30, cycles=3, ratio=0.8, weight=2.0, start=0.0)
    assert [warmup.at(epoch) for epoch in (0, 4, 8, 9, 10, 14, 25)] == pytest.approx([0, 1, 2, 2, 0, 1, 1.25])
    assert warmup.ends() == pytest.approx(28)
    assert [warmup.at(epoch) for epoch in (28, 29.9, 30, 34, 99)] == [2.0] * 5


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: Beta(-1), "a KL weight must be a number >= 0, got -1"),
        (lambda: LinearWarmup(0), "a positive number of epochs, got 0"),
        (lambda: CosineWarmup(5, float("nan")), "a KL weight"),
        (lambda: SigmoidWarmup(5, steepness=0.0), "steepness of a warm-up must be positive, got 0"),
        (lambda: SigmoidWarmup(5, start=-0.1), "a KL weight"),
        (lambda: CyclicWarmup(-3.0), "a positive number of epochs"),
        (lambda: CyclicWarmup(5, cycles=0), "cycles must be a positive whole number, got 0"),
        (lambda: CyclicWarmup(5, ratio=1.5), r"ratio.*must be in \(0, 1\], got 1.5"),
    ],
)
def test_what_makes_no_sense_is_refused(make, fragment):
    with pytest.raises(ValueError, match=fragment):
        make()
