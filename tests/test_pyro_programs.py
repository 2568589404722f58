"""Programs in the style of Pyro's examples go through `Pair`, `check_pair`, training and evaluation as
they are, and a gradient step's loss is stock SVI's.
"""

from __future__ import annotations

import warnings

import pyro
import pytest
import torch
from pyro.infer import SVI
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators, evaluate
from ppl_vae.core.meeting import meet
from ppl_vae.testing import check_pair
from ppl_vae.train.step import Step
from tests.pyro_programs import EXAMPLES


@pytest.fixture(params=EXAMPLES)
def example(request):
    """An example that draws its particles one by one where it must, and need not say so."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*are drawn one by one.*")
        yield EXAMPLES[request.param]()
    assert not list(pyro.get_param_store().keys())


def test_it_is_checked_and_evaluated(example):
    pair = pv.Pair(example.model, example.guide)
    report = check_pair(pair, *example.batch, allow_global=example.allow_global)
    assert report.num_parameters > 0
    bounds = evaluate.bounds(pair, example.batch, 3)
    assert torch.tensor(bounds.elbo).isfinite()
    if not example.allow_global:
        score = evaluate.log_likelihood(pair, example.batch, 50, progress=False, seed=1)
        assert score.value > evaluate.bounds(pair, example.batch, 50, seed=1).elbo


@pytest.mark.parametrize("ours", [False, True], ids=["pyros", "ours"])
def test_the_losses_of_its_steps_are_stock_svis(example, ours):
    pair = pv.Pair(example.model, example.guide)
    with torch.random.fork_rng():
        meet(pair, example.batch)
    start = [parameter.detach().clone() for parameter in pair.parameters()]
    estimator = estimators.ELBO() if ours else example.loss
    step = Step(pair, estimator, torch.optim.SGD(pair.parameters(), 1e-4))
    losses = []
    for number in range(3):
        torch.manual_seed(number)
        losses.append(float(step(*example.batch)))
    with torch.no_grad():
        for parameter, value in zip(pair.parameters(), start, strict=True):
            parameter.copy_(value).grad = None
    size = len(example.batch[0])
    svi = SVI(*pair.pyro(), pyro.optim.SGD({"lr": 1e-4 / size}), example.loss)
    stock = []
    for number in range(3):
        torch.manual_seed(number)
        stock.append(svi.step(*example.batch) / size)
    pair.forget_pyro()
    assert losses == pytest.approx(stock, rel=1e-4)


def test_a_training_improves_it(example):
    pair = pv.Pair(example.model, example.guide)
    meet(pair, example.batch)
    optimizer = torch.optim.Adam(pair.parameters(), 0.02)
    estimator = estimators.ELBO(5)

    def loss():
        torch.manual_seed(0)
        return estimator.loss(pair.model, pair.guide, *example.batch)

    before = loss()
    for _ in range(100):
        optimizer.zero_grad()
        estimators.ELBO().differentiable_loss(pair.model, pair.guide, *example.batch).backward()
        nn.utils.clip_grad_norm_(pair.parameters(), 100.0)
        optimizer.step()
    assert loss() < before
