"""Penalties in `fit`: what they do, what is logged and said, resuming bit for bit, refusals."""

from __future__ import annotations

import copy

import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, kl, penalties
from ppl_vae.capture import CaptureError
from ppl_vae.cli.command_train import parser
from ppl_vae.train.step import Step
from tests.capture import helpers
from tests.penalties.programs import images, pair, particles
from tests.train.test_fit import QUICK, same, vae, weights
from tests.zoo import CASES

SMALL = {**QUICK, "epochs": 2, "batch_size": 100}
FEATURES = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Tanh())
ADVERSARY = penalties.Adversarial(weight=5.0, feature_weight=0.1, channels=2, learning_rate=1e-3)
ALL = [penalties.Perceptual(FEATURES, 20.0), penalties.MSSSIM(100.0, sigma=0.5), ADVERSARY]


@pytest.fixture(scope="module")
def digits():
    return data.load("digits").train.take(300)


@pytest.mark.parametrize("treatment", ALL, ids=lambda each: type(each).__name__)
def test_every_penalty_trains_beside_the_true_elbo_and_says_that_it_is_no_bound(treatment, digits):
    run = pv.fit(vae(), estimators.ELBO(2), digits, penalties=treatment, learning_rate=3e-3, **SMALL)
    first, last = run.history.iloc[0], run.history.iloc[-1]
    assert last["train_reconstruction"] > first["train_reconstruction"]
    assert last["train_elbo"] == pytest.approx(last["train_reconstruction"] - last["train_kl_z"], rel=1e-6)
    assert last["train_bound"] == pytest.approx(last["train_elbo"] - last["train_penalty_x"], rel=1e-5)
    assert treatment.facts.bound == "neither"
    assert f"penalties={type(treatment).__name__}(...)" in run.hints[-1]
    assert "train_bound, is no bound on log p(x)" in run.hints[-1]
    if treatment is not ADVERSARY:
        assert last["train_penalty_x"] < first["train_penalty_x"]


def test_beside_a_treatment_of_the_kl_term_and_by_site(digits):
    options = {"kl": kl.FreeBits(0.5), "penalties": {"x": penalties.MSSSIM(10.0, sigma=0.5)}}
    last = pv.fit(vae(), estimators.ELBO(), digits, **options, **SMALL).history.iloc[-1]
    added = last["train_penalty_x"] + last["train_penalty_z"]
    assert last["train_bound"] == pytest.approx(last["train_reconstruction"] - added, rel=1e-5)


def test_what_is_judged_is_the_pair_alone(digits):
    """A bound after the training is that of its weights, whatever they were trained by."""
    run = pv.fit(vae(), estimators.ELBO(), digits, penalties=ALL[1], **SMALL)
    plain, x = vae(), digits.tensors()[0]
    plain.load_state_dict(run.pair.state_dict())
    found = [evaluate.bounds(each, x).elbo for each in (run.pair, plain)]
    assert found[0] == found[1]


def test_a_run_with_an_adversary_resumes_bit_for_bit(digits, tmp_path):
    arguments, options = (estimators.ELBO(), digits), {**SMALL, "penalties": ADVERSARY}
    whole = pv.fit(vae(), *arguments, **{**options, "epochs": 4})
    pv.fit(vae(), *arguments, run_dir=tmp_path, **options)
    resumed = pv.fit(vae(seed=3), *arguments, run_dir=tmp_path, resume=True, **{**options, "epochs": 4})
    assert same(weights(whole.pair), weights(resumed.pair))
    with pytest.raises(pv.RunError, match=r"penalties was 'Adversarial\(weight=5.0.*, is 'MSSSIM\("):
        pv.fit(vae(), *arguments, run_dir=tmp_path, resume=True, **{**options, "penalties": ALL[1]})


def test_a_captured_step_takes_what_has_no_training_of_its_own():
    of, x = pair().double(), images().double()
    drawn = particles(of, x)
    losses = []
    for run in (captured_step, step):
        made = {"x": penalties.MSSSIM(10.0, sigma=0.5).penalty("x", drawn, 8)}
        torch.manual_seed(0)
        losses.append(run(copy.deepcopy(of), made)(x))
    torch.testing.assert_close(*losses)
    with pytest.raises(CaptureError, match="AdversarialPenalty of site 'x' has a training of its own"):
        captured_step(of, {"x": ADVERSARY.penalty("x", drawn, 8)})


def captured_step(of, made):
    return helpers.captured_step(of, estimators.ELBO(), helpers.sgd(of), penalties=made)


def step(of, made):
    plan = kl.KLPlan(1.0, ("z",), 1)
    plan.penalties = made
    return Step(of, estimators.ELBO(), helpers.sgd(of), kl=plan)


def test_refusals_come_before_training(digits):
    treatment = penalties.MSSSIM(sigma=0.5)
    with pytest.raises(ValueError, match=r"penalties=MSSSIM.* for site 'x': DReG cuts the draws"):
        pv.fit(vae(), estimators.DReG(), digits, penalties=treatment, **SMALL)
    with pytest.raises(ValueError, match=r"Trace_ELBO is Pyro's, and gives no particles"):
        pv.fit(vae(), Trace_ELBO(), digits, penalties=treatment, **SMALL)
    with pytest.raises(ValueError, match=r"penalties names 'y', but the pair's observed sites are \['x'\]"):
        pv.fit(vae(), estimators.ELBO(), digits, penalties={"y": treatment}, **SMALL)
    with pytest.raises(ValueError, match=r"such as penalties\.MSSSIM\(\).* got .*make an object of it"):
        pv.fit(vae(), estimators.ELBO(), digits, penalties=penalties.MSSSIM, **SMALL)
    case = next(case for case in CASES if case.detail == "autoregressive")
    with pytest.raises(pv.PairError, match=r"the Autoregressive of site 'x' has no mean with a gradient"):
        pv.fit(case.pair(), estimators.ELBO(), *case.batch(), penalties=treatment, **SMALL)


def test_several_observed_sites_are_told_apart():
    with pytest.raises(ValueError, match=r"could be of any of the observed sites \['x', 'y'\]"):
        penalties.by_site(penalties.MSSSIM(), lambda: ["x", "y"])
    assert penalties.by_site(None, lambda: []) == {}


def test_the_command_line_takes_one_by_its_name():
    of_train = parser()
    options = of_train.build(of_train.read(["--penalties", "MSSSIM", "--penalties.sigma", "0.5"]))
    assert options.penalties == penalties.MSSSIM(sigma=0.5)
