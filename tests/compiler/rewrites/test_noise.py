"""The captured step's noise: fresh at every call, of the right distribution."""

from __future__ import annotations

import pyro
import pytest
import torch

from ppl_vae import estimators
from ppl_vae.compiler.graph import prepare
from ppl_vae.compiler.rewrites import Setting
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


@needs_compiler
@pytest.mark.skipif(torch.__version__ < "2.9", reason="its compiler changes the order of some draws")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_noise_is_that_of_every_operator(dtype):
    def drawn(tensors):
        (p,) = tensors
        new = torch.empty_like
        return [
            torch.bernoulli(p),
            new(p).bernoulli_(0.3),
            new(p).bernoulli_(p),
            torch.rand_like(p),
            torch.normal(p, p),
            new(p).random_(0, 9),
            new(p, dtype=torch.int32).random_(3, 9),
            new(p).exponential_(),
            new(p).geometric_(0.3),
            torch._standard_gamma(p),
            torch.multinomial(p, 2),
            torch.poisson(5 * p),
            torch.randint(0, 9, (5,)),
            torch.nn.functional.dropout(p, 0.5),
        ]

    p = torch.full((5, 7), 0.4, dtype=dtype)
    run = prepare(drawn, [p], Setting(torch.device("cpu")))
    found = []
    for function in (lambda: drawn([p]), lambda: run(p)):
        torch.manual_seed(0)
        found.append(function())
    for place, (written, captured) in enumerate(zip(*found, strict=True)):
        assert torch.equal(written, captured), place
