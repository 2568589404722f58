from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.distributions import Normal
from torch import nn
from torch.distributions import kl_divergence

from ppl_vae import Pair, evaluate, guides, likelihoods, models, nets
from ppl_vae.core import drawing
from ppl_vae.core.sites import PairError
from tests.conftest import SIGMAS
from tests.evaluate.programs import (
    ChainGuide,
    ChainModel,
    GlobalGuide,
    GlobalModel,
    TimeGuide,
    TimeModel,
    stretched_pair,
)
from tests.oracle import make_pair

# Where Student's t of 20 runs has the tail that a normal distribution has at 4.5 standard errors
STUDENT = 6.5


def mean_field_pair() -> Pair:
    """The oracle's model with a diagonal guide, whose KL to the prior Pyro knows."""
    return Pair(make_pair().model, guides.MeanField(nets.MLPEncoder((5,), 3, hidden=())))


def test_kl_is_the_closed_form(double):
    pair, x = mean_field_pair(), torch.randn(30, 5)
    result = evaluate.bounds(pair, x, batch_size=7)
    loc, scale = (value.detach() for value in pair.guide.encoder(x))
    exact = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
    torch.testing.assert_close(result.kl_per_datum["z"], exact)
    assert result.kl["z"] == pytest.approx(float(exact.mean()))
    assert result.elbo == pytest.approx(result.reconstruction - result.kl["z"])
    assert result.elbo == pytest.approx(float(result.per_datum.mean()))
    assert result.standard_error == pytest.approx(float(result.per_datum.std()) / math.sqrt(30))
    assert result.per_datum.shape == (30,)
    assert result.num_particles == 1


def test_the_bound_misses_the_evidence_by_the_kl_to_the_posterior(double):
    pair, x = make_pair(perturb=0.05), torch.randn(20, 5)
    runs = torch.stack([evaluate.bounds(pair, x, 50, seed=seed).per_datum for seed in range(20)])
    gap = kl_divergence(pair.guide.posterior(x), pair.model.posterior(x)).detach()
    expected = pair.model.log_evidence(x).detach() - gap
    sigmas = (runs.mean(0) - expected) / (runs.std(0) / math.sqrt(20))
    assert sigmas.abs().max() < STUDENT


def test_more_particles_and_small_batches_keep_the_mean(double):
    pair, x = mean_field_pair(), torch.randn(2000, 5)
    one, many = evaluate.bounds(pair, x), evaluate.bounds(pair, x, 40, batch_size=300)
    spread = (one.per_datum - many.per_datum).std() / math.sqrt(2000)
    assert abs(one.elbo - many.elbo) < SIGMAS * float(spread)
    assert one.kl["z"] == pytest.approx(many.kl["z"])


def test_a_site_that_the_guide_draws_in_another_order_is_sampled(double):
    pair, x = Pair(ChainModel(), ChainGuide()), torch.randn(4)
    drawn = drawing.draw(pair.model, pair.guide, (x,), num_particles=3)
    # p(z | h) is read at an h that already depends on the z drawn
    assert [s for s in drawn.latent_sites if drawn.kl_closed_form(s) is not None] == ["h"]
    runs = torch.stack([evaluate.bounds(pair, (x,), 1000, seed=seed).per_datum for seed in range(20)])
    # x = z + noise and z = h + noise are Gaussian: the exact bound by moments of the guide
    z_mean, z_var = 0.8 * x, 0.16
    h_mean, h_var = 0.7 * z_mean, 0.49 * z_var + 0.25
    likelihood = -((x - z_mean) ** 2 + z_var) / 0.5 - math.log(0.5 * math.sqrt(2 * math.pi))
    step = ((z_mean - h_mean) ** 2 + 0.09 * z_var + 0.25) / 0.5
    z_prior = -step - math.log(0.5 * math.sqrt(2 * math.pi))
    h_prior = -(h_mean**2 + h_var) / 2 - math.log(math.sqrt(2 * math.pi))
    entropy = sum(0.5 * math.log(2 * math.pi * math.e * variance) for variance in (z_var, 0.25))
    exact = likelihood + z_prior + h_prior + entropy
    assert ((runs.mean(0) - exact).abs() < STUDENT * runs.std(0) / math.sqrt(20)).all()


def test_inner_plates_are_summed_and_every_site_has_its_kl(double):
    pair, x = Pair(TimeModel(), TimeGuide()), torch.randn(6, 4)
    result = evaluate.bounds(pair, x)
    exact = kl_divergence(Normal(x[:, :2] * 0.3, 0.7), Normal(torch.zeros(()), 1.0)).sum(-1)
    torch.testing.assert_close(result.kl_per_datum["z"], exact)
    assert set(result.kl) == {"z", "h"}


def test_a_global_latents_kl_is_shared_out(double):
    pair, x = Pair(GlobalModel(), GlobalGuide()), torch.randn(50)
    result = evaluate.bounds(pair, (x,), 2, batch_size=10)
    kl = float(kl_divergence(Normal(0.2, 0.5), Normal(0.0, 1.0)))
    assert result.kl["mean"] * 50 == pytest.approx(kl)
    assert set(result.kl_per_datum) == {"z"}
    assert result.elbo == pytest.approx(float(result.per_datum.mean()) - result.kl["mean"])


def test_exact_guide_and_text(double):
    pair = stretched_pair(1.0)
    text = str(evaluate.bounds(pair, torch.randn(12, 5), 3))
    lines = text.splitlines()
    assert lines[0] == "12 data, nats per datum"
    assert [line.split()[0] for line in lines[1:]] == ["ELBO", "reconstruction", "KL"]
    assert "±" in lines[1]
    assert "K = 3" in lines[1]


def test_seed_repeats_and_leaves_the_callers_random_numbers(double):
    pair, x = make_pair(perturb=0.1), torch.randn(6, 5)
    before = torch.get_rng_state()
    first, again = evaluate.bounds(pair, x, seed=1), evaluate.bounds(pair, x, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.per_datum, again.per_datum)


def test_densities_of_other_things_are_refused():
    """Bits under a normal prior, or three numbers under one, had a bound, which was none."""
    guide, x = guides.Bernoulli(nets.MLPEncoder((4,), 3, ())), torch.rand(5, 4).round()
    normal = models.VAE(likelihoods.Bernoulli(1), nets.MLPDecoder(3, (4,), ()), 3)
    single = models.VAE(likelihoods.Bernoulli(1), nn.LazyLinear(4), 1)
    for model, reason in (
        (normal, "Normal is continuous .* Bits is discrete"),
        (single, r"\[1\] in the model"),
    ):
        drawn = guide if model is normal else guides.MeanField(guide.encoder)
        for ask in (evaluate.bounds, evaluate.elbo_surgery):
            with pytest.raises(PairError, match=reason):
                ask(Pair(model, drawn), x)


def test_nan_names_the_site():
    pair = make_pair()
    pair.model.weight.data.fill_(math.nan)
    pyro.enable_validation(False)
    with pytest.raises(PairError, match=r"datum 0: .*log-likelihood of site 'x'"):
        evaluate.bounds(pair, torch.randn(3, 5))


def test_one_datum_has_no_standard_error(double):
    result = evaluate.bounds(make_pair(), torch.randn(1, 5))
    assert math.isnan(result.standard_error)
    assert "±" not in str(result)
