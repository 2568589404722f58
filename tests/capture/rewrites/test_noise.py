"""The captured step's noise: fresh at every call, of the right distribution."""

from __future__ import annotations

import pyro
import pytest
import torch

from ppl_vae import estimators
from ppl_vae.train.captured_step import CapturedStep
from ppl_vae.train.objective import Objective
from tests.capture.helpers import (
    images,
    needs_compiler,
    vae,
)
from tests.conftest import SIGMAS


@pytest.mark.parametrize(
    ("backend", "repeats"),
    [("graph", 500), pytest.param("inductor", 5000, marks=[needs_compiler, pytest.mark.slow])],
)
def test_noise_is_fresh_and_right(backend, repeats):
    pair, x = vae(torch.float64), images(dtype=torch.float64)
    objective = Objective(pair, estimators.ELBO())
    still = torch.optim.SGD(pair.parameters(), lr=0.0)
    # Inductor with random numbers of its own
    captured = CapturedStep(objective, still, backend=backend, same_noise=backend == "graph")
    losses = torch.stack([captured(x) for _ in range(repeats)])
    assert len(losses.unique()) == repeats
    with torch.no_grad(), pyro.validation_enabled(False):
        # each particle of the whole batch is one eager step's loss
        eager = -estimators.ELBO(20_000).draw(pair.model, pair.guide, x).log_weight.mean(-1)
    for moment in (lambda y: y, lambda y: (y - eager.mean()).square()):
        one, two = moment(losses), moment(eager)
        error = (one.var() / len(one) + two.var() / len(two)).sqrt()
        assert abs(one.mean() - two.mean()) < SIGMAS * error
