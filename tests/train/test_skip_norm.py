"""Steps whose gradient is too large are left out: nothing moves, and the history says how many."""

from __future__ import annotations

import copy

import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam

import ppl_vae as pv
from ppl_vae import estimators
from ppl_vae.train.step import Step
from tests.capture.helpers import adam, assert_same_steps, captured_step, images, vae

X = images(16)


def fitted(**options):
    pair = vae()
    run = pv.fit(pair, estimators.ELBO(), X, epochs=1, batch_size=8, progress=False, capture=False, **options)
    return run, pair.state_dict()


def test_a_threshold_that_all_exceed_leaves_all_out_and_says_so():
    run, after = fitted(skip_norm=1e-9)
    assert all(torch.equal(after[name], before) for name, before in vae().state_dict().items())
    assert (run.history["train_skipped"] == 1).all()
    (hint,) = [hint for hint in run.hints if "skip_norm" in hint]
    assert "leaves out 100% of the data of epoch 1" in hint


def test_a_threshold_that_none_exceeds_changes_nothing():
    run, after = fitted(skip_norm=1e9)
    assert (run.history["train_skipped"] == 0).all()
    assert all(torch.equal(each, after[name]) for name, each in fitted()[1].items())


def test_the_norm_in_the_history_is_that_of_the_gradient():
    pair = vae()
    step = Step(pair, estimators.ELBO(), torch.optim.SGD(pair.parameters(), lr=0.0), skip_norm=1e9)
    step(X)
    norm = torch.cat([each.grad.flatten() for each in pair.parameters()]).norm()
    assert step.pop_means()["gradient_norm"] == pytest.approx(float(norm), rel=1e-5)


def test_a_gradient_that_is_not_a_number_is_left_out():
    pair = vae()
    before = copy.deepcopy(pair.state_dict())
    next(pair.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    step = Step(pair, estimators.ELBO(), adam(pair), skip_norm=1e9)
    step(X)
    assert step.pop_means()["skipped"] == 1
    assert all(torch.equal(pair.state_dict()[name], each) for name, each in before.items())


@pytest.mark.parametrize("clip_norm", [pytest.param(None, marks=pytest.mark.grid), 1.0])
def test_the_captured_step_leaves_out_the_same(clip_norm):
    """Of the norms of eight steps, a threshold in the middle leaves out some."""
    batches = [(images(8, torch.float64)[:2],), (images(8, torch.float64),)]
    probe = vae(torch.float64)
    step, norms = Step(probe, estimators.ELBO(), adam(probe), skip_norm=1e9), []
    for number in range(8):
        step(*batches[number % 2])
        norms.append(step.pop_means()["gradient_norm"])
    middle = sorted(norms)[4]
    assert_same_steps(
        vae(torch.float64), estimators.ELBO(), batches[1:], skip_norm=middle, clip_norm=clip_norm
    )
    pair = vae(torch.float64)
    captured = captured_step(pair, estimators.ELBO(), adam(pair), skip_norm=1e-9, clip_norm=clip_norm)
    captured(*batches[0])
    assert captured.pop()["skipped"] == 2
    assert all(
        torch.equal(each, vae(torch.float64).state_dict()[name]) for name, each in pair.state_dict().items()
    )


def test_an_optimizer_that_counts_in_python_does_not_count_what_is_left_out():
    pair = vae()
    optimizer = ClippedAdam(pair.parameters(), lr=1e-3, lrd=0.5)
    step = captured_step(pair, estimators.ELBO(), optimizer, skip_norm=1e9)
    step(images(8))
    step.skip_norm, step._graphs = 1e-9, {}
    step(images(8))
    assert {each["step"] for each in optimizer.state.values()} == {1}
    assert optimizer.param_groups[0]["lr"] == 5e-4


@pytest.mark.parametrize("wrong", [0, -1.0, "1", float("nan")])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="skip_norm must be positive"):
        fitted(skip_norm=wrong)


def test_a_threshold_may_be_a_whole_number_of_any_size():
    assert fitted(skip_norm=10**30)[0].history["train_skipped"].tolist() == [0.0]
