"""Densities and gradients from captured graphs: those of the program as written."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

import ppl_vae as pv
from ppl_vae import evaluate
from ppl_vae.capture import CaptureError, worth
from ppl_vae.core.isolation import questioning
from ppl_vae.sampling import gradients as module
from ppl_vae.sampling.bases import base_of
from ppl_vae.sampling.gradients import Gradients
from ppl_vae.sampling.joint import Joint
from tests.capture.helpers import images, needs_compiler, vae, without_compiling
from tests.sampling.helpers import linear_gaussian
from tests.zoo import PARTS

HALF = torch.tensor(0.5, dtype=torch.float64)
SHORT = {"num_samples": 3, "num_chains": 2, "warmup": 2, "num_leapfrogs": 2, "progress": False}


@pytest.fixture
def uncompiled(monkeypatch):
    """Captured densities that are not compiled; the functions that were made."""
    return without_compiling(monkeypatch, module)


def draws(pair, x, capture, **options):
    found = pv.posterior(pair, *x, capture=capture, **(SHORT | options))
    return [torch.from_numpy(each.to_numpy()) for each in found["posterior"].values()]


@pytest.mark.grid
@pytest.mark.parametrize("case", PARTS)
def test_the_zoos_chains_are_those_as_written(case, uncompiled):
    """To rounding, over a few steps; what has no posterior to move in, or cannot be captured, says so."""
    pair, batch = case.pair(torch.float64).eval(), case.batch(torch.float64)
    pair.remember(batch)
    captured, refusal = [], ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few draws are not to be trusted
        try:
            found = draws(pair, batch, False)
        except ValueError:
            return
        try:
            captured = draws(pair, batch, True)
        except CaptureError as error:
            refusal = str(error)
    if refusal:
        assert "looks at the values" in refusal
        return
    assert uncompiled[-1].num_graphs == 1
    for one, two in zip(found, captured):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("start", ["guide", "moments", "prior", None])
def test_one_graph_serves_all_batches_and_follows_the_weights(start, uncompiled):
    oracle, x = linear_gaussian(1.4, 0.4, data=10)
    pair = oracle.pair
    with questioning(pair, 0, pair.device):
        written, captured = Gradients(pair, False, 1), Gradients(pair, True, 1)
        for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
            joint = Joint(pair, (x[rows],), "a test")
            base = None if start is None else base_of(joint, start)
            points = joint.guide_draws(3)
            for beta in (torch.zeros_like(HALF), HALF, 2 * HALF):
                one, two = (each.of(joint, base)(points, beta) for each in (written, captured))
                torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)
            pair.model.weight.mul_(1.1)
    assert [each.num_graphs for each in uncompiled] == [0, 1]  # a last, smaller batch runs as written


@pytest.mark.usefixtures("double")
def test_data_with_gaps(uncompiled):
    """What hides them is a handler with tensors of its own; each question has a graph of its own."""
    oracle, x = linear_gaussian(data=5)
    for seed in (0, 1):
        x = x.clone()
        x[seed, seed] = torch.nan
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one, two = (draws(oracle.pair, (x,), capture)[0] for capture in (False, True))
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-8)
    assert [each.num_graphs for each in uncompiled] == [0, 1, 0, 1]


@pytest.mark.usefixtures("double")
def test_both_sides_of_the_evidence(uncompiled):
    oracle, x = linear_gaussian(1.4, 0.4, data=6)
    oracle.pair.remember((x,))
    short = {"num_temperatures": 4, "num_leapfrogs": 2, "progress": False, "batch_size": 3}
    for ask in (
        lambda capture: evaluate.sandwich(oracle.pair, 6, num_chains=2, capture=capture, **short).upper,
        lambda capture: (
            evaluate.log_likelihood(oracle.pair, x, 2, method="ais", capture=capture, **short).per_datum
        ),
    ):
        torch.testing.assert_close(ask(True), ask(False), rtol=1e-8, atol=1e-8)
    assert [each.num_graphs for each in uncompiled] == [1, 0, 1, 0]


def test_auto_counts_the_work(uncompiled, monkeypatch):
    pair, x = vae(), images(3)
    monkeypatch.setattr(worth, "can_compile", lambda device: True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draws(pair, (x,), "auto")
        assert uncompiled[-1].num_graphs == 0
        monkeypatch.setattr(worth, "SAVED_BY_RUN", 10.0)
        draws(pair, (x,), "auto")
    assert uncompiled[-1].num_graphs == 1
    with pytest.raises(ValueError, match="capture must be"):
        draws(pair, (x,), "always")


def test_what_looks_at_its_points_is_refused_by_its_line():
    oracle, x = linear_gaussian()
    pair = copy.deepcopy(oracle.pair)

    class Looking(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            assert float(x.sum()) < 1e9
            return self.model(x)

    with pytest.raises(CaptureError, match=r"test_gradients\.py:\d+, `assert float"):
        draws(pv.Pair(Looking(pair.model), pair.guide), (x,), True)


@needs_compiler
@pytest.mark.slow
@pytest.mark.grid
def test_compiled_chains_are_those_as_written():
    pair, x = vae(torch.float64), images(3, torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, two = (draws(pair, (x,), capture)[0] for capture in (False, True))
    torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-8)
