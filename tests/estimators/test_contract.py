"""One contract over every estimator, and the contract itself held against estimators that break it."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from torch import nn

from ppl_vae import estimators
from ppl_vae.estimators import Estimator, Facts
from ppl_vae.particles import log_mean_exp
from ppl_vae.testing_estimators import EstimatorError, check_estimator


def baseline():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(2, 1)


# the estimator, and the same with more particles where theory says that it does not fall
EVERY = [
    (estimators.ELBO(2), estimators.ELBO(4)),
    (estimators.MeanFieldELBO(2), None),
    (estimators.IWAE(3), estimators.IWAE(8)),
    (estimators.Renyi(0.5, 3), None),
    (estimators.Renyi(-1.0, 3), None),
    (estimators.Renyi(-math.inf, 3), estimators.Renyi(-math.inf, 6)),
    (estimators.Renyi(math.inf, 3), None),
    (estimators.STL(), None),
    (estimators.STL(3), estimators.STL(8)),
    (estimators.DReG(0.0, 3), estimators.DReG(0.0, 8)),
    (estimators.DReG(0.5, 3), None),
    (estimators.DReG(1.0, 3), None),
    (estimators.MIWAE(2, 2), estimators.MIWAE(2, 4)),
    (estimators.PIWAE(2, 2), estimators.PIWAE(4, 2)),
    (estimators.CIWAE(0.3, 3), estimators.CIWAE(0.3, 6)),
    (estimators.ScoreFunction(2), None),
    (estimators.NVIL(baseline(), 2), None),
    (estimators.NVIL(baseline(), 2, normalise=True), None),
    (estimators.VIMCO(3), estimators.VIMCO(6)),
    (estimators.ReweightedWakeSleep(3), estimators.ReweightedWakeSleep(6)),
    (estimators.ARM(), None),
    (estimators.DisARM(2), None),
    (estimators.TVO(4, 3), estimators.TVO(8, 3)),
    (estimators.TVO(4, 3, "moments"), None),
    (estimators.CUBO(2.0, 4), estimators.CUBO(2.0, 8)),
    (estimators.JVI(1, 3), None),
    (estimators.JVI(2, 4), None),
    (estimators.SUMO(2, 60), None),
]


@pytest.mark.parametrize(("estimator", "larger"), EVERY, ids=lambda e: repr(e) if e is not None else "")
def test_every_estimator_keeps_the_contract(estimator, larger):
    report = check_estimator(estimator, larger=larger, repeats=250)
    assert report.estimator == repr(estimator)
    assert len(report.checks) >= 8


def test_every_estimator_is_in_the_contract():
    named = {getattr(estimators, name) for name in estimators.__all__} - {Estimator, Facts}
    assert {type(estimator) for estimator, _ in EVERY} == named
