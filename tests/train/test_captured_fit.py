"""`fit` with captured steps."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch

import ppl_vae as pv
from ppl_vae import estimators, kl
from ppl_vae.capture import CaptureError
from ppl_vae.capture.worth import worth_capturing, worth_trying
from ppl_vae.train import captured_step, loop
from tests.capture.helpers import (
    difference,
    images,
    vae,
)

FITTING = {"epochs": 2, "batch_size": 12, "progress": False, "device": "cpu"}


def fitted(capture, **options):
    pair = vae()
    run = pv.fit(pair, estimators.ELBO(), images(30), capture=capture, **FITTING | options)
    return pair, run.history.drop(columns=["seconds", "capture_seconds"], errors="ignore")


def test_fit_is_the_same_captured(uncompiled):
    first, history = fitted(False, schedule="cosine", kl=kl.LinearWarmup(2), clip_norm=1.0)
    second, captured = fitted(True, schedule="cosine", kl=kl.LinearWarmup(2), clip_norm=1.0)
    assert len(uncompiled[0]._graphs) == 2, "the smaller last batch has a graph of its own"
    assert difference(first, second) < 1e-5
    assert captured.to_numpy() == pytest.approx(history.to_numpy(), rel=1e-5)


def test_a_captured_fit_resumes_as_it_would_have_gone_on(uncompiled, tmp_path):
    whole, _ = fitted(True, epochs=4)
    fitted(True, epochs=2, run_dir=tmp_path)
    resumed, _ = fitted(True, epochs=4, run_dir=tmp_path, resume=True)
    assert difference(whole, resumed) == 0


def test_auto_captures_long_trainings_only(uncompiled):
    fitted("auto")
    assert uncompiled == []
    cpu = torch.device("cpu")
    assert not worth_trying(499, cpu)
    assert worth_trying(500, cpu) == (shutil.which("g++") is not None)


def recording(operations, numbers):
    """What the decision looks at."""
    return SimpleNamespace(entries=[None] * operations, numbers=numbers)


@pytest.mark.parametrize(
    ("operations", "numbers", "steps", "worth"),
    [
        (178, 2_000_000, 1_000, False),  # a VAE on 128 images
        (178, 2_000_000, 3_000, True),
        (178, 12_000_000, 1_000, True),  # on 1,000 images: more work, which a graph does faster too
        (3_400, 7_000_000, 3_000, False),  # 24 steps in time, which take long to compile
        (35, 1_000, 1_000, False),
    ],
)
def test_more_work_is_captured_earlier(operations, numbers, steps, worth):
    assert worth_capturing(recording(operations, numbers), steps, torch.device("cpu")) == worth


def test_auto_captures_the_sizes_that_repay_it(uncompiled, monkeypatch):
    """Of 12, 12 and 6 data an epoch the larger batches, and the same training comes of it."""
    seen = {}

    def worth(recording, steps, device):
        assert recording.entries
        assert recording.numbers > 0
        seen[steps] = recording
        return steps > 4

    monkeypatch.setattr(loop, "worth_trying", lambda steps, device: steps == 9)
    monkeypatch.setattr(captured_step, "worth_capturing", worth)
    written, history = fitted(False, epochs=3)
    captured, same = fitted("auto", epochs=3)
    assert sorted(seen) == [3, 6]
    assert seen[6].numbers > seen[3].numbers
    assert len(uncompiled[0]._graphs) == 1
    assert difference(written, captured) < 1e-5
    assert same.to_numpy() == pytest.approx(history.to_numpy(), rel=1e-5)


def test_without_a_compiler_auto_is_silent_and_true_an_error(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *arguments, **options: None)
    assert not worth_trying(1_000_000, torch.device("cpu"))
    with pytest.raises(CaptureError, match=r"install g\+\+"):
        fitted(True)


def test_an_unknown_capture_is_refused():
    with pytest.raises(ValueError, match="capture must be one of True, False, 'auto'"):
        fitted("always")


def test_bfloat16_nets_are_captured(uncompiled):
    first, _ = fitted(False, precision="bf16")
    second, _ = fitted(True, precision="bf16")
    assert difference(first, second) < 1e-2
    assert len(uncompiled[0]._graphs) == 2
