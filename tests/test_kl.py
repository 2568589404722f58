"""KL weights and warm-ups."""

from __future__ import annotations

import pytest

from ppl_vae.kl import Beta, KLSchedule, LinearWarmup


def test_a_linear_warm_up_is_a_straight_line():
    warmup = LinearWarmup(epochs=10, weight=2.0, start=0.5)
    assert [warmup.at(epoch) for epoch in (0, 5, 10, 99)] == pytest.approx([0.5, 1.25, 2.0, 2.0])


def test_a_number_is_a_constant_weight_for_every_site():
    schedule = KLSchedule(0.5, ("a", "b"), epochs=1)
    assert schedule.at(0.7) == {"a": 0.5, "b": 0.5}
    assert schedule.changes_anything


def test_sites_left_out_keep_their_weight():
    assert KLSchedule({"a": Beta(3.0)}, ("a", "b"), epochs=1).at(0.0) == {"a": 3.0}
    assert not KLSchedule({"a": 1.0}, ("a", "b"), epochs=1).changes_anything


def test_a_warm_up_that_outlasts_the_training_is_warned_of():
    with pytest.warns(UserWarning, match="before the KL warm-up does"):
        KLSchedule(LinearWarmup(100), ("z",), epochs=10)


@pytest.mark.parametrize(
    "make", [lambda: Beta(-1), lambda: LinearWarmup(0), lambda: LinearWarmup(5, float("nan"))]
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(ValueError, match=r"KL weight|positive number of epochs"):
        make()
