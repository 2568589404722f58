"""Progress in a log is whole lines, few of them; on a terminal it is a bar."""

from __future__ import annotations

import io
import sys

import pytest
import torch

import ppl_vae as pv
from ppl_vae import comparison, estimators, evaluate
from ppl_vae.terminal import progress
from tests.oracle import make_pair


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when they are asked for: three at a time."""

    now = [0.0]

    def later() -> float:
        now[0] += 3.0
        return now[0]

    monkeypatch.setattr(progress.time, "monotonic", later)
    return now


OPTIONS = {"batch_size": 10, "device": "cpu", "capture": False}


def test_a_log_of_fit_has_a_line_an_epoch_at_most_every_ten_seconds(clock, capsys):
    pv.fit(make_pair(), estimators.ELBO(), torch.randn(40, 5), epochs=12, **OPTIONS)
    err = capsys.readouterr().err
    assert "\r" not in err
    assert "%|" not in err
    lines = err.splitlines()
    assert [line.split("/12, train bound ")[0] for line in lines] == [f"epoch {n}" for n in (1, 5, 9)]
    assert all(line.endswith(" nats") for line in lines)


def test_a_quick_training_and_a_quick_evaluation_say_next_to_nothing(monkeypatch, capsys):
    monkeypatch.setattr("ppl_vae.terminal.progress.time.monotonic", lambda: 1.0)  # quick on any machine
    pair, x = make_pair(), torch.randn(40, 5)
    pv.fit(pair, estimators.ELBO(), x, epochs=20, **OPTIONS)
    assert len(capsys.readouterr().err.splitlines()) <= 1
    evaluate.summary(pair, x, 50)
    comparison.at_point(pair, [estimators.ELBO], x[:3], num_particles=[1, 2], draws=10)
    assert capsys.readouterr().err == ""


def test_a_log_of_an_evaluation_has_a_line_now_and_then(clock, capsys):
    evaluate.log_likelihood(make_pair(), torch.randn(40, 5), 50, batch_size=2)
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 8
    assert all(line.startswith("log p(x): ") and line.endswith("% of 2,000 draws") for line in lines)


def test_a_log_of_a_comparison_names_what_is_done(clock, capsys):
    x = torch.randn(20, 5)
    comparison.after_training(
        lambda seed: make_pair(), [estimators.ELBO()], x, judge_on=x, epochs=1, seeds=range(8),
        judge_particles=2, device="cpu",
    )  # fmt: skip
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("compare: ") and "runs, ELBO" in line for line in lines)


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    pv.fit(make_pair(), estimators.ELBO(), torch.randn(40, 5), epochs=2, **OPTIONS)
    assert "\r" in terminal.getvalue()
    assert "epoch 2/2" in terminal.getvalue()


def test_nothing_is_shown_where_nothing_was_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    pv.fit(make_pair(), estimators.ELBO(), torch.randn(40, 5), epochs=2, progress=False, **OPTIONS)
    assert terminal.getvalue() == ""
    with pytest.raises(ValueError, match=r"progress must be True or False, got tensor\(\[1., 1.\]\)"):
        progress.show_progress(3, show=torch.ones(2))
