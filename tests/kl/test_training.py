"""Treatments of the KL term in `fit`: what they do, what is logged, and resuming bit for bit."""

from __future__ import annotations

import pytest
import torch
from pyro.infer import Trace_ELBO

import ppl_vae as pv
from ppl_vae import data, estimators, kl
from tests.programs import GlobalMeanGuide, GlobalMeanModel
from tests.train.test_fit import QUICK, same, vae, weights

SMALL = {**QUICK, "epochs": 2, "batch_size": 100}
FACTOR = kl.FactorVAE(5.0, hidden=(16,), learning_rate=1e-3)
PENALTIES = [
    kl.FreeBits(0.5),
    kl.Capacity(3.0, epochs=1, gamma=10.0),
    kl.TotalCorrelation(4.0),
    kl.TotalCorrelation(4.0, "stratified"),
    FACTOR,
    kl.DIP("II"),
    kl.MMD(10.0, alpha=0.5),
]


@pytest.fixture(scope="module")
def digits():
    return data.load("digits").train.take(500)


@pytest.mark.parametrize("treatment", PENALTIES, ids=lambda t: type(t).__name__)
def test_every_penalty_trains_and_is_logged_beside_the_true_elbo(treatment, digits):
    run = pv.fit(vae(), estimators.ELBO(2), digits, kl=treatment, learning_rate=3e-3, **SMALL)
    first, last = run.history.iloc[0], run.history.iloc[-1]
    assert last["train_reconstruction"] > first["train_reconstruction"]
    assert last["train_elbo"] == pytest.approx(last["train_reconstruction"] - last["train_kl_z"], rel=1e-6)
    weighted = last["train_reconstruction"] - treatment.at(1.0) * last["train_kl_z"]
    assert last["train_bound"] == pytest.approx(weighted - last["train_penalty_z"], rel=1e-5)


def test_a_weight_of_one_changes_no_bit(digits):
    plain = weights(pv.fit(vae(), estimators.ELBO(), digits, **SMALL).pair)
    for treatment in (1.0, 1, kl.Beta(1.0), {"z": 1.0}):
        assert same(plain, weights(pv.fit(vae(), estimators.ELBO(), digits, kl=treatment, **SMALL).pair))
    for treatment in (kl.DIP("I", 0.0, 0.0), kl.TotalCorrelation(1.0)):
        assert same(plain, weights(pv.fit(vae(), estimators.ELBO(), digits, kl=treatment, **SMALL).pair))
    assert not same(plain, weights(pv.fit(vae(), estimators.ELBO(), digits, kl=0.5, **SMALL).pair))


def test_free_bits_of_zero_nats_is_the_mean_field_elbo(digits):
    plain = pv.fit(vae(), estimators.MeanFieldELBO(), digits, **SMALL).history
    free = pv.fit(vae(), estimators.ELBO(), digits, kl=kl.FreeBits(0.0), **SMALL).history
    assert list(free["train_bound"]) == pytest.approx(list(plain["train_bound"]), rel=1e-5)


def test_a_capacity_is_reached(digits):
    treatment = kl.Capacity(6.0, steps=20, gamma=100.0)
    options = {**SMALL, "epochs": 8}
    run = pv.fit(vae(), estimators.ELBO(), digits, kl=treatment, learning_rate=3e-3, **options)
    assert run.history["train_kl_z"].iloc[-1] == pytest.approx(6.0, abs=0.5)


def test_a_warm_up_shorter_than_an_epoch_ends_within_it(digits):
    run = pv.fit(vae(), estimators.ELBO(), digits, kl=kl.CosineWarmup(0.2), **SMALL)
    plain = pv.fit(vae(), estimators.ELBO(), digits, **SMALL)
    last = run.history.iloc[-1]
    assert last["train_bound"] == pytest.approx(last["train_elbo"], rel=1e-6)
    assert not same(weights(run.pair), weights(plain.pair))


def test_a_run_with_a_discriminator_resumes_bit_for_bit(digits, tmp_path):
    arguments, options = (estimators.ELBO(), digits), {**SMALL, "kl": FACTOR}
    whole = pv.fit(vae(), *arguments, **{**options, "epochs": 4})
    pv.fit(vae(), *arguments, run_dir=tmp_path, **options)
    resumed = pv.fit(vae(seed=3), *arguments, run_dir=tmp_path, resume=True, **{**options, "epochs": 4})
    assert same(weights(whole.pair), weights(resumed.pair))
    ours, theirs = (run.history.drop(columns="seconds") for run in (resumed, whole))
    assert ours.equals(theirs)


def test_a_run_cannot_go_on_under_another_treatment(digits, tmp_path):
    pv.fit(vae(), estimators.ELBO(), digits, run_dir=tmp_path, kl=FACTOR, **SMALL)
    with pytest.raises(pv.RunError, match=r"kl was 'FactorVAE\(gamma=5.0.*, is 'FactorVAE\(gamma=6.0"):
        pv.fit(vae(), estimators.ELBO(), digits, run_dir=tmp_path, resume=True, kl=kl.FactorVAE(6.0), **SMALL)


def test_a_treatment_counts_without_the_check_of_the_pair_too(digits):
    run = pv.fit(vae(), estimators.ELBO(), digits, kl=0.0, check=False, **SMALL)
    last = run.history.iloc[-1]
    assert last["train_bound"] == pytest.approx(last["train_reconstruction"], rel=1e-6)
    with pytest.raises(ValueError, match="Trace_ELBO has no KL term"):
        pv.fit(vae(), Trace_ELBO(), digits, kl=0.5, check=False, **SMALL)


def test_refusals_come_before_training(digits):
    with pytest.raises(ValueError, match=r"site 'z': DReG cuts the draws.*estimators\.ELBO"):
        pv.fit(vae(), estimators.DReG(), digits, kl=kl.DIP(), **SMALL)
    with pytest.raises(ValueError, match=r"site 'z': IWAE has no KL term to weigh apart"):
        pv.fit(vae(), estimators.IWAE(3), digits, kl=kl.FreeBits(0.1), **SMALL)
    pair = pv.Pair(GlobalMeanModel(50), GlobalMeanGuide(50))
    with pytest.raises(pv.PairError, match=r"FreeBits: site 'theta' is outside the plate 'data'"):
        pv.fit(pair, estimators.ELBO(), torch.randn(50), kl=kl.FreeBits(0.1), **{**SMALL, "batch_size": 50})


def test_an_importance_weighted_bound_takes_what_is_only_added(digits):
    run = pv.fit(vae(), estimators.IWAE(4), digits, kl={"z": kl.DIP("II")}, **SMALL)
    assert run.history["train_penalty_z"].iloc[-1] > 0


def test_a_users_own_treatment(digits):
    class Shrink:
        """All of the guide's draws pulled to zero."""

        def at(self, epoch):
            return 1.0

        def ends(self):
            return 0.0

        def penalty(self, site, example, data_size):
            class Pull(kl.Penalty):
                def forward(self, particles):
                    return 100 * particles.guide_trace.nodes[site]["value"].square().mean()

            return Pull()

    shrunk = pv.fit(vae(), estimators.ELBO(), digits, kl=Shrink(), learning_rate=3e-3, **SMALL)
    free = pv.fit(vae(), estimators.ELBO(), digits, learning_rate=3e-3, **SMALL)
    means = [
        run.pair.guide.encoder(digits.take(50).tensors()[0])[0].square().mean() for run in (shrunk, free)
    ]
    assert means[0] < 0.8 * means[1]
