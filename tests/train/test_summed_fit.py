"""Pairs whose model sums over finite sites, from end to end: trained, captured, compared, asked, scored."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI, TraceEnum_ELBO

import ppl_vae as pv
from ppl_vae import PairError, estimators, evaluate, kl
from ppl_vae.core import drawing
from ppl_vae.evaluate.arviz_data import inference_data
from tests.capture.helpers import assert_same_steps, sgd
from tests.core.summed_programs import (
    HMM,
    TIMES,
    Amortised,
    Clusters,
    Empty,
    Mixture,
    Nested,
    Topics,
    TopicsGuide,
)

X = torch.linspace(-2, 3, 16)


def chain():
    return pv.Pair(HMM(), Empty()), (torch.randn(4, TIMES), torch.tensor([TIMES, 1, 3, 2]))


@pytest.mark.parametrize(
    ("make", "estimator"),
    [
        (lambda: (pv.Pair(Mixture(), Amortised()), (X.double(),)), estimators.IWAE(3)),
        (lambda: (pv.Pair(Mixture(), Amortised()), (X.double(),)), estimators.DReG(2)),
        (lambda: (pv.Pair(Clusters(), Empty()), (X.double(),)), estimators.EnumeratedELBO()),
        (chain, estimators.ELBO()),
        (lambda: (pv.Pair(Nested(), Empty()), (torch.randn(3, 4), torch.randn(3))), estimators.ELBO()),
        (lambda: (pv.Pair(Topics(), TopicsGuide()), (torch.randint(0, 6, (3, 4)),)), estimators.ELBO(2)),
    ],
    ids=["mixture", "mixture-DReG", "clusters", "chain", "nested", "topics"],
)
def test_the_captured_step_equals_the_written_one(double, make, estimator):
    pair, batch = make()
    assert_same_steps(pair, estimator, [batch], sgd, steps=3)


def test_the_losses_of_fit_are_stock_svis(double):
    x = X.double()
    pair = pv.Pair(Mixture("parallel"), Amortised())
    stock = pv.Pair(Mixture("parallel"), Amortised())
    optimizer = pyro.optim.SGD({"lr": 0.01})
    svi = SVI(*stock.pyro(), optimizer, TraceEnum_ELBO(max_plate_nesting=1))
    for estimator in (estimators.ELBO(), TraceEnum_ELBO(max_plate_nesting=1)):
        pyro.set_rng_seed(1)
        ours = [estimator.differentiable_loss(pair.model, pair.guide, x) for _ in range(3)]
        pyro.set_rng_seed(1)
        theirs = [svi.evaluate_loss(x) for _ in range(3)]
        assert [each.item() for each in ours] == pytest.approx(theirs)


@pytest.mark.parametrize("estimator", [estimators.EnumeratedELBO(), estimators.IWAE(4)], ids=repr)
def test_a_mixture_is_found_by_training(estimator):
    x = torch.cat([torch.randn(300) * 0.5 - 3, torch.randn(600) * 0.5 + 3])
    pair = pv.Pair(Clusters(), Empty())
    run = pv.fit(
        pair, estimator, x, epochs=40, batch_size=300, learning_rate=0.05, progress=False, capture=False
    )
    assert run.history["train_bound"].iloc[-1] > run.history["train_bound"].iloc[0] + 0.5
    likelihood = evaluate.log_likelihood(pair, x, num_particles=2, progress=False)
    torch.testing.assert_close(
        likelihood.per_datum, pair.model.log_evidence(x).double(), rtol=1e-5, atol=1e-5
    )


def test_estimators_are_compared_on_it():
    given = [estimators.ELBO(), estimators.IWAE(4)]
    options = {"judge_particles": 40, "progress": False, "batch_size": 16, "device": "cpu"}
    result = pv.compare(
        lambda seed: pv.Pair(Mixture(), Amortised()), given, X, epochs=2, seeds=[0], judge_on=X, **options
    )
    assert "IWAE" in str(result)


def test_scores_and_questions(double):
    x, pair = X.double(), pv.Pair(Mixture(), Amortised())
    pair.remember((x,))
    exact = pair.model.log_evidence(x).detach()
    likelihood = evaluate.log_likelihood(pair, x, num_particles=4000, progress=False)
    error = likelihood.per_datum_monte_carlo_standard_error
    assert ((likelihood.per_datum - exact).abs() < 4.5 * error).all()
    bounds = evaluate.bounds(pair, x, num_particles=400)
    assert bounds.elbo < exact.mean() + 4.5 * bounds.standard_error
    assert set(bounds.kl) == {"z"}
    assert "KL z" in str(evaluate.summary(pair, x, num_particles=100, progress=False))
    with pytest.raises(PairError, match="its prior is a sum over finite sites"):
        evaluate.elbo_surgery(pair, x, progress=False)
    drawn = pv.sample(pair, 6, seed=0)
    assert drawn.latents["k"].shape == drawn.value.shape == (6,)
    assert set(pv.encode(pair, x, seed=0).latents) == {"z"}
    tree = inference_data(pair, x, num_samples=5)
    assert "posterior_predictive" in str(tree)


def test_a_model_that_sums_over_all_its_latents_is_summed_up_and_compared(double):
    pair = pv.Pair(Clusters(), Empty())
    table = str(evaluate.summary(pair, X.double(), num_particles=30, progress=False))
    assert "-log p(x)" in table
    assert "active units" not in table
    options = {"judge_particles": 40, "progress": False, "batch_size": 16, "device": "cpu"}
    pv.compare(
        lambda seed: pv.Pair(Clusters(), Empty()),
        [estimators.ELBO()],
        X,
        epochs=1,
        seeds=[0],
        judge_on=X,
        **options,
    )


def test_a_reconstruction_draws_what_is_summed_from_its_posterior(double):
    model = Clusters()
    with torch.no_grad():
        model.means.copy_(torch.tensor([-50.0, 0.0, 50.0]))
    x = torch.tensor([-50.0, 50.0, 0.0, 50.0])
    again = pv.reconstruct(pv.Pair(model, Empty()), x, num_samples=20, seed=0)
    assert again.latents["k"].shape == (20, 4)
    assert (again.latents["k"] == torch.tensor([0, 2, 1, 2])).all()
    assert (again.value - x).abs().max() < 6
    tree = inference_data(pv.Pair(model, Empty()), x, num_samples=5)
    assert abs(tree["posterior_predictive"]["x"].values - x.numpy()).max() < 6


def test_penalties_that_read_the_prior_are_refused_by_the_site_and_weights_are_not(double):
    x, pair = X.double(), pv.Pair(Mixture(), Amortised())
    particles = drawing.draw(pair.model, pair.guide, (x,))
    for treatment in (kl.MMD(1.0), kl.DIP()):
        with pytest.raises(PairError, match="site 'z'"):
            treatment.penalty("z", particles, len(x))
    with pytest.raises(PairError, match="per='site'"):
        kl.FreeBits(0.1).penalty("z", particles, len(x))
    pv.fit(pair, estimators.ELBO(), x, epochs=1, kl={"z": kl.Beta(0.5)}, progress=False, capture=False)
