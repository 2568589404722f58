"""Every prior under a VAE: the same questions, bounds, captured steps and files as the standard normal."""

from __future__ import annotations

import math

import pytest
import torch
import zuko
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam

import ppl_vae as pv
from ppl_vae import estimators, evaluate, guides, kl, likelihoods, models, nets, priors
from ppl_vae.runs import pair_config, pair_from_config
from ppl_vae.testing import check_pair
from tests.capture.helpers import assert_same_steps, images
from tests.conftest import SIGMAS

SHAPE, LATENT = (1, 4, 4), 3
MAKE = {
    "standard": lambda encoder: priors.StandardNormal(LATENT),
    "diagonal": lambda encoder: priors.DiagonalNormal(LATENT),
    "mixture": lambda encoder: priors.MixtureOfGaussians(LATENT, 4),
    "vamp": lambda encoder: priors.VampPrior(encoder, 5),
    "spline": lambda encoder: priors.Flow(LATENT, transforms=2, hidden=(8,)),
    "affine": lambda encoder: priors.Flow(LATENT, "affine", transforms=2, hidden=(8,)),
}
LEARNED = [name for name in MAKE if name != "standard"]


def make(name, dtype=torch.float32, move=True):
    encoder = nets.MLPEncoder(SHAPE, LATENT, (6,))
    decoder = nets.MLPDecoder(LATENT, SHAPE, (6,))
    prior = MAKE[name](encoder)
    if move:
        with torch.no_grad():
            for parameter in prior.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    model = models.VAE(likelihoods.Bernoulli(), decoder, LATENT, prior)
    return pv.Pair(model, guides.MeanField(encoder), example=(images(),)).to(dtype)


@pytest.mark.parametrize("name", MAKE)
def test_contract_and_questions(name):
    pair, x = make(name), images()
    estimator = estimators.DReG(num_particles=3)
    assert check_pair(pair, x, estimator=estimator).latent_sites == {"z": (LATENT,)}
    draws = pv.sample(pair, 6, seed=0)
    assert (draws.value.shape, draws.latent.shape) == ((6, *SHAPE), (6, LATENT))
    assert pv.reconstruct(pair, x, num_samples=2).value.shape == (2, 8, *SHAPE)
    assert pv.traverse(pair, x, steps=3).mean.shape == (LATENT, 3, 8, *SHAPE)
    assert pv.interpolate(pair, x[:2], x[2:4], steps=3).mean.shape == (3, 2, *SHAPE)
    surgery = evaluate.elbo_surgery(pair, x).sites["z"]
    assert surgery.kl.value == pytest.approx(surgery.mutual_information.value + surgery.marginal_kl.value)
    # only a prior that factorises has a KL by dimension
    assert (surgery.dimension_wise_kl is None) == (name not in ("standard", "diagonal"))
    assert math.isfinite(evaluate.summary(pair, x, num_particles=20, progress=False).log_likelihood.value)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.usefixtures("double")
def test_draws_and_density_of_a_prior_agree(name):
    prior = make(name).model.prior.double()
    with torch.no_grad():
        z = prior().expand((20_000,)).sample()
        log_prob = prior().log_prob(z)
        # E_p[r(z) / p(z)] = 1 for any density r, and a narrow r inside the cloud keeps the variance low
        r = torch.distributions.Normal(z.mean(0), 0.7 * z.std(0))
        ratio = (r.log_prob(z).sum(-1) - log_prob).exp()
    assert abs(ratio.mean() - 1) < SIGMAS * ratio.std() / len(z) ** 0.5


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.usefixtures("double")
def test_monte_carlo_kl_is_the_kl(name):
    """The mean of log q - log p at draws of q against the same integral by another proposal."""
    pair, x = make(name, torch.float64), images(dtype=torch.float64)[:2]
    with torch.no_grad():
        particles = estimators.ELBO(20_000).draw(pair.model, pair.guide, x)
        ours = particles.kl_sample("z")
        loc, scale = pair.guide.encoder(x)
        q, wide = (torch.distributions.Normal(loc, s) for s in (scale, 1.2 * scale))
        z = wide.sample((20_000,))
        log_q = q.log_prob(z).sum(-1)
        terms = (log_q - wide.log_prob(z).sum(-1)).exp() * (log_q - pair.model.prior().log_prob(z))
    error = ((ours.var(0) + terms.var(0)) / 20_000).sqrt()
    assert ((ours.mean(0) - terms.mean(0)).abs() < SIGMAS * error).all()
    closed = particles.kl_closed_form("z")
    assert (closed is None) == (name not in ("standard", "diagonal"))


@pytest.mark.parametrize("name", LEARNED)
def test_training_moves_the_prior_and_a_folder_keeps_it(name, tmp_path):
    pair, x = make(name, move=False), images(40)
    before = {key: value.clone() for key, value in pair.model.prior.state_dict().items()}
    pv.fit(pair, estimators.MeanFieldELBO(), x, epochs=2, batch_size=10, progress=False, run_dir=tmp_path)
    after = pair.model.prior.state_dict()
    assert all(not torch.equal(before[key], after[key]) for key, _ in pair.model.prior.named_parameters())
    again = pv.load(tmp_path)
    z = torch.randn(5, LATENT)
    torch.testing.assert_close(again.model.prior().log_prob(z), pair.model.prior().log_prob(z))
    assert (again.guide.encoder is getattr(again.model.prior, "encoder", None)) == (name == "vamp")


@pytest.mark.parametrize("name", MAKE)
def test_stock_svi(name):
    pair, x = make(name), images()
    before = {key: value.clone() for key, value in pair.named_parameters()}
    svi = SVI(*pair.pyro(), Adam({"lr": 1e-2}), Trace_ELBO())
    assert math.isfinite(svi.step(x))
    moved = {key for key, value in pair.named_parameters() if not torch.equal(before[key], value)}
    assert moved == set(before)
    pair.forget_pyro()


@pytest.mark.parametrize("name", LEARNED)
def test_captured_steps_equal_eager_ones(name):
    pair = make(name, torch.float64)
    batches = [(images(dtype=torch.float64),)]
    assert_same_steps(pair, estimators.IWAE(2), batches, steps=3)


@pytest.mark.parametrize("name", ["mixture", "vamp", "spline"])
def test_kl_treatments_of_any_prior(name):
    pair, x = make(name), images(20)
    for treatment in (kl.TotalCorrelation(2.0), kl.MMD(10.0), kl.FreeBits(0.1, per="site")):
        run = pv.fit(pair, estimators.ELBO(), x, epochs=1, batch_size=10, progress=False, kl=treatment)
        assert run.history["train_elbo"].notna().all()
    with pytest.raises(pv.PairError, match=r"FreeBits\(0.1, per='site'\)"):
        pv.fit(pair, estimators.ELBO(), x, epochs=1, progress=False, kl=kl.FreeBits(0.1))


def test_no_prior_is_the_standard_normal():
    pair, x = make("standard"), images()
    plain = pv.Pair(models.VAE(pair.model.likelihood, pair.model.decoder, LATENT), pair.guide)
    values = [evaluate.bounds(each, x, seed=3).per_datum for each in (pair, plain)]
    torch.testing.assert_close(*values)


def test_a_prior_of_another_size_is_refused():
    with pytest.raises(ValueError, match="latent_dim is 3 but the prior was built for 2"):
        models.VAE(likelihoods.Bernoulli(), nets.MLPDecoder(3, SHAPE), 3, priors.StandardNormal(2))


def test_the_diagonal_prior_starts_standard():
    z = torch.randn(5, LATENT)
    expected = priors.StandardNormal(LATENT)().log_prob(z)
    for prior in (priors.DiagonalNormal(LATENT), priors.Flow(LATENT), priors.Flow(LATENT, "affine")):
        torch.testing.assert_close(prior().log_prob(z), expected)


def test_the_mixture_starts_with_unit_variance():
    prior = priors.MixtureOfGaussians(2, 2000)
    torch.testing.assert_close(prior().variance, torch.ones(2), atol=0.1, rtol=0)


def test_a_flow_integrates_to_one(double):
    prior = priors.Flow(2, transforms=2, hidden=(8,))
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    axis = torch.linspace(-9, 9, 361)
    with torch.no_grad():
        log_prob = prior().log_prob(torch.cartesian_prod(axis, axis))
    assert float(log_prob.exp().sum() * (18 / 360) ** 2) == pytest.approx(1.0, abs=2e-3)
    assert (log_prob - priors.StandardNormal(2)().log_prob(torch.cartesian_prod(axis, axis))).std() > 0.1


@pytest.mark.parametrize("kind", ["spline", "affine"])
def test_a_flow_of_one_dimension(kind):
    prior = priors.Flow(1, kind)
    assert prior().log_prob(torch.zeros(4, 1)).shape == (4,)
    assert prior().sample((6,)).shape == (6, 1)


def test_zuko_leaves_the_validation_on():
    priors.Flow(2)
    assert zuko.__version__
    with pytest.raises(ValueError, match="scale"):
        torch.distributions.Normal(0.0, -1.0)


def test_mistakes():
    with pytest.raises(ValueError, match="kind must be 'spline' or 'affine', got 'planar'"):
        priors.Flow(2, "planar")
    with pytest.raises(ValueError, match="num_components must be a positive integer, got 0"):
        priors.MixtureOfGaussians(2, 0)


def test_a_shared_encoder_stands_once_in_the_config():
    pair = make("vamp")
    config = pair_config(pair)["pair"]
    assert (
        config["model"]["init_args"]["prior"]["init_args"]["encoder"]
        is config["guide"]["init_args"]["encoder"]
    )
    again = pair_from_config({"pair": config})
    assert again.guide.encoder is again.model.prior.encoder
