"""The deterministic autoencoder: what it minimises, what can be asked of it, and what cannot."""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.testing import check_pair
from tests.capture.helpers import assert_same_steps

SHAPE, LATENT = (1, 8, 8), 3


def make(scale=0.5):
    decoder = nets.MLPDecoder(LATENT, SHAPE, (16,))
    guide = guides.Deterministic(nets.MLPEncoder(SHAPE, LATENT, (16,)))
    x = torch.rand(4, *SHAPE)
    return pv.Pair(models.Autoencoder(likelihoods.Gaussian(scale), decoder, LATENT), guide, example=(x,)), x


def reconstruction(pair, x):
    return pair.model.decoder(pair.guide.encoder(x)[0])


def test_the_objective_is_the_squared_error():
    pair, x = make()
    loss = estimators.ELBO().loss(pair.model, pair.guide, x)
    squared = (x - reconstruction(pair, x)).square().sum()
    constant = x.numel() * torch.distributions.Normal(0.0, 0.5).log_prob(torch.tensor(0.0))
    assert float(loss) == pytest.approx((squared / (2 * 0.25) - constant).item(), rel=1e-5)
    gradient = torch.autograd.grad(squared / 0.5, list(pair.parameters()), allow_unused=True)
    estimators.ELBO().differentiable_loss(pair.model, pair.guide, x).backward()
    for parameter, expected in zip(pair.parameters(), gradient, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-4)


def test_contract_and_the_questions_that_have_answers():
    pair, x = make()
    assert check_pair(pair, x, estimator=estimators.ELBO()).latent_sites == {"z": (LATENT,)}
    z = pair.guide.encoder(x)[0].detach()
    torch.testing.assert_close(pv.encode(pair, x).mean, z)
    torch.testing.assert_close(pv.encode(pair, x, num_samples=2).latent, z.expand(2, 4, LATENT))
    expected = reconstruction(pair, x).detach()
    torch.testing.assert_close(pv.reconstruct(pair, x).mean, expected)
    torch.testing.assert_close(pv.decode(pair, z).mean, expected)
    path = pv.interpolate(pair, x[:2], x[2:], steps=3).mean
    torch.testing.assert_close(path[[0, 2]].flatten(0, 1), expected)
    assert pv.traverse(pair, x, steps=2).mean.shape == (LATENT, 2, 4, *SHAPE)
    variance = evaluate.active_units(pair, x).variance["z"]
    torch.testing.assert_close(variance.float(), z.var(0), rtol=1e-3, atol=1e-5)


def test_without_a_prior_nothing_is_drawn():
    pair, x = make()
    for ask in (lambda: pv.sample(pair, 3), lambda: evaluate.holes(pair, torch.cat([x] * 5))):
        with pytest.raises(ValueError, match=r"no prior over \['z'\].*models.VAE"):
            ask()


def test_it_trains_saves_and_loads(tmp_path):
    digits = data.load("digits", binarise=None)
    pair, _ = make(0.25)
    run = pv.fit(
        pair, estimators.ELBO(), digits, epochs=15, progress=False, run_dir=tmp_path, learning_rate=5e-3
    )
    assert (run.history["train_kl_z"] == 0).all()
    (x,) = digits.test.tensors()
    error = (pv.reconstruct(pv.load(tmp_path), x).mean - x).square().mean()
    assert error < 0.8 * x.var(0).mean()


def test_captured_steps_equal_eager_ones():
    pair, _ = make()
    assert_same_steps(pair.double(), estimators.ELBO(), [(torch.rand(8, *SHAPE).double(),)], steps=3)


def test_a_decoder_of_another_size_is_refused():
    with pytest.raises(ValueError, match="latent_dim is 4 but the decoder was built for 3"):
        models.Autoencoder(likelihoods.Bernoulli(), nets.MLPDecoder(3, SHAPE), 4)
