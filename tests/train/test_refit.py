"""refit_prior: what it finds where the aggregate posterior is known, what it leaves alone and refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import ppl_vae as pv
from ppl_vae import guides, likelihoods, models, nets, priors
from tests.oracle import make_pair


def shifted(count=1000):
    """Data of a linear-Gaussian pair whose latents are not standard normal, and their aggregate posterior."""
    pair = make_pair(latent_dim=2, data_dim=4)
    with torch.no_grad():
        z = torch.tensor([1.5, -1.0]) + torch.randn(count, 2) * torch.tensor([0.4, 1.6])
        x = z @ pair.model.weight.T + pair.model.bias + pair.model.log_scale.exp() * torch.randn(count, 4)
        posterior = pair.model.posterior(x)
        mean = posterior.mean.mean(0)
        covariance = posterior.mean.T.cov(correction=0) + posterior.covariance_matrix[0]
    return pair, x, MultivariateNormal(mean, covariance)


def test_it_finds_the_moments_of_the_aggregate_posterior_and_the_bound_rises_by_what_theory_says(double):
    pair, x, aggregate = shifted(600)
    before = copy.deepcopy(pair.state_dict())
    refit = pv.refit_prior(
        pair, x, priors.DiagonalNormal(2), num_draws=2, epochs=60, batch_size=1080, learning_rate=0.05,
        schedule="cosine", capture=False,
    )  # fmt: skip
    found = refit.pair.model.prior()
    torch.testing.assert_close(found.mean, aggregate.mean, atol=0.08, rtol=0)
    torch.testing.assert_close(found.variance, aggregate.variance, atol=0.1, rtol=0.1)
    assert all(torch.equal(old, pair.state_dict()[name]) for name, old in before.items())
    held = pair.model.posterior(x[::10])
    old = kl_divergence(held, MultivariateNormal(torch.zeros(2), torch.eye(2)))
    new = kl_divergence(held, MultivariateNormal(found.mean, found.variance.diag_embed())).detach()
    gain = refit.after.per_datum - refit.before.per_datum
    spread = float((gain - (old - new).detach()).std()) / len(gain) ** 0.5
    assert abs(float(gain.mean() - (old - new).mean().detach())) < 4.5 * spread + 1e-6
    assert float(gain.mean()) > 0.5
    assert "60 data held out" in str(refit)
    drawn = pv.sample(refit.pair, 2000, seed=0).latents["z"]
    torch.testing.assert_close(drawn.mean(0), found.mean.detach(), atol=0.15, rtol=0)


def vae(shared=None, prior=None, guide=guides.MeanField):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = shared or nets.MLPEncoder((5,), 2, (4,), batch_norm=True)
        decoder = nets.MLPDecoder(2, (5,), (4,))
        return pv.Pair(models.VAE(likelihoods.Gaussian(event_dim=1), decoder, 2, prior), guide(encoder))


SHORT = {"epochs": 2, "batch_size": 50, "capture": False}


def test_a_vampprior_shares_the_encoder_which_stays_as_it_is():
    encoder = nets.MLPEncoder((5,), 2, (4,), batch_norm=True)
    pair, x = vae(encoder).train(), torch.randn(100, 5) + 1
    before = copy.deepcopy(pair.state_dict())
    prior = priors.VampPrior(encoder, 4, bounded=False)
    prior.initialise(x)
    start = prior.raw.detach().clone()
    refit = pv.refit_prior(pair, x, prior, **SHORT)
    assert not torch.equal(prior.raw, start)
    assert all(torch.equal(old, pair.state_dict()[name]) for name, old in before.items())
    assert pair.guide.training
    assert all(each.requires_grad for each in encoder.parameters())
    assert isinstance(refit.pair.model, models.VAE)
    assert refit.pair.model.prior is prior
    assert refit.pair.guide.encoder is encoder


def test_the_old_prior_goes_and_a_run_of_the_new_pair_loads(tmp_path):
    pair, x = vae(prior=priors.MixtureOfGaussians(2, 3)), torch.randn(100, 5)
    refit = pv.refit_prior(pair, x, priors.Flow(2, "affine", 1, (4,)), **SHORT)
    assert not any("loc" in name for name, _ in refit.pair.model.prior.named_parameters())
    pv.fit(refit.pair, pv.estimators.ELBO(), x, run_dir=tmp_path, progress=False, **SHORT)
    assert isinstance(pv.load(tmp_path).model.prior, priors.Flow)


def test_a_second_vae_over_the_codes():
    pair, x = vae(), torch.randn(200, 5)
    prior = priors.TwoStage(nets.MLPEncoder((1,), 2, (4,)), nets.MLPEncoder((2,), 1, (4,)))
    refit = pv.refit_prior(pair, x, prior, **SHORT)
    assert isinstance(refit.pair.guide, guides.TwoStage)
    assert set(refit.after.kl) == {"z", "u"}
    assert pv.sample(refit.pair, 3).latents["u"].shape == (3, 1)


def test_codes_get_an_autoregressive_prior():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.VAE(likelihoods.Bernoulli(1), nets.MLPDecoder(6, (5,)), 6, priors.Categorical(2, 3))
        pair = pv.Pair(model, guides.Categorical(nets.MLPEncoder((5,), 6), 3))
    x = (torch.rand(400, 5) < 0.3).float()
    refit = pv.refit_prior(
        pair, x, priors.Autoregressive(2, 3, 8), epochs=20, batch_size=60, learning_rate=0.02, capture=False
    )
    assert refit.after.elbo > refit.before.elbo
    assert pv.sample(refit.pair, 7).latents["z"].sum() == 14


def test_an_autoencoder_gets_a_prior_and_no_bound():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.Autoencoder(likelihoods.Gaussian(event_dim=1), nets.MLPDecoder(2, (5,)), 2)
        pair = pv.Pair(model, guides.Deterministic(nets.MLPEncoder((5,), 2)))
    refit = pv.refit_prior(pair, torch.randn(200, 5), priors.MixtureOfGaussians(2, 4), **SHORT)
    assert refit.before is None
    assert refit.after is None
    assert refit.why_no_bound == "the guide puts site 'z' in one point"
    assert "ELBO after   none" in str(refit)
    assert isinstance(refit.pair.model, models.WithPrior)
    assert pv.sample(refit.pair, 4).values["x"].shape == (4, 5)


def test_what_cannot_be_refitted_is_refused():
    x = torch.randn(100, 5)
    pair = vae(prior=priors.MixtureOfGaussians(2, 3))
    with pytest.raises(ValueError, match="a part of the pair already"):
        pv.refit_prior(pair, x, pair.model.prior)
    with pytest.raises(ValueError, match=r"event shape \[2\], and the prior's is \[3\]"):
        pv.refit_prior(pair, x, priors.DiagonalNormal(3))
    with pytest.raises(ValueError, match="20 data or more"):
        pv.refit_prior(pair, x[:10], priors.DiagonalNormal(2))
    sizes = {"latent_dims": (3, 2), "hidden": ((4,), (4,))}
    ladder = pv.Pair(
        models.LadderVAE.dense(likelihoods.Bernoulli(1), (5,), **sizes), guides.BottomUp.dense((5,), **sizes)
    )
    ones = (x > 0).float()
    with pytest.raises(ValueError, match=r"\['z1', 'z2'\]: say which one"):
        pv.refit_prior(ladder, ones, priors.DiagonalNormal(2))
    with pytest.raises(ValueError, match=r"'z1' has a prior that hangs on other latents"):
        pv.refit_prior(ladder, ones, priors.DiagonalNormal(3), site="z1")
    refit = pv.refit_prior(ladder, ones, priors.DiagonalNormal(2), site="z2", **SHORT)
    assert refit.site == "z2"


@pytest.mark.parametrize(("family", "kind"), [("Bernoulli", "discrete"), ("Sphere", "on the sphere")])
def test_a_prior_whose_density_is_of_another_kind_is_refused(family, kind):
    guide = guides.Bernoulli if family == "Bernoulli" else guides.PowerSpherical
    pair = vae(prior=getattr(priors, family)(2), guide=guide)
    with pytest.raises(ValueError, match=f"DiagonalNormal is continuous and the codes, .* are .*{kind}"):
        pv.refit_prior(pair, torch.randn(30, 5), priors.DiagonalNormal(2))


def test_a_prior_that_does_not_hold_the_codes_is_refused():
    with pytest.raises(ValueError, match=r"codes lie outside of LogNormal: .* > 0, and this is -"):
        pv.refit_prior(vae(), torch.randn(30, 5), priors.LogNormal(2))


def test_a_fixed_prior_is_put_in_place_untrained():
    pair, x = vae(prior=priors.MixtureOfGaussians(2, 3)), torch.randn(100, 5)
    refit = pv.refit_prior(pair, x, priors.StandardNormal(2))
    assert refit.run is None
    assert isinstance(refit.pair.model.prior, priors.StandardNormal)
    exact = kl_divergence(Normal(*pair.eval().guide.encoder(x[::10])), Normal(0.0, 1.0))
    torch.testing.assert_close(
        refit.after.kl["z"], float(exact.sum(-1).mean().detach()), rtol=1e-4, atol=1e-4
    )
