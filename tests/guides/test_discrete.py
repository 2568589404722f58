"""Guides of bits and codes: the paths of their gradients, in training mode and out of it."""

from __future__ import annotations

import pytest
import torch
from pyro import poutine

import ppl_vae as pv
from ppl_vae import estimators, evaluate, guides, likelihoods, models, nets, priors
from tests.capture.helpers import assert_same_steps, images, sgd
from tests.estimators.states import exact_elbo

PATHS = ("none", "straight-through", "gumbel-softmax", "straight-through gumbel-softmax")


def make(kind="bits", path="gumbel-softmax", **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder, encoder = nets.MLPDecoder(6, (1, 4, 4), (5,)), nets.MLPEncoder((1, 4, 4), 6, (5,))
        prior = priors.Bernoulli(6) if kind == "bits" else priors.Categorical(2, 3)
        guide = guides.Bernoulli(encoder, path, **options)
        if kind == "codes":
            guide = guides.Categorical(encoder, 3, path, **options)
        return pv.Pair(models.VAE(likelihoods.Bernoulli(), decoder, 6, prior), guide)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["bits", "codes"])
def test_in_eval_mode_every_path_draws_discrete_values_and_gives_the_elbo(kind, path):
    pair, x = make(kind, path), images(3)
    pair.train()
    z = poutine.trace(pair.guide).get_trace(x).nodes["z"]["value"]
    discrete = ((z == 0) | (z == 1)).all()
    assert bool(discrete) == (path != "gumbel-softmax")
    found = evaluate.bounds(pair, x, num_particles=4000)
    pair.eval()
    with torch.no_grad():
        assert abs(found.elbo - float(exact_elbo(pair, x))) < 0.05


@pytest.mark.parametrize("path", PATHS[1:])
def test_with_a_path_the_elbo_trains_it(path):
    pair, x = make("bits", path), images(60)
    before = evaluate.bounds(pair, x, num_particles=100).elbo
    optimizer = torch.optim.Adam(pair.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        estimators.ELBO().differentiable_loss(pair.model, pair.guide, x).backward()
        optimizer.step()
    assert evaluate.bounds(pair, x, num_particles=100).elbo > before + 0.5


def test_the_closed_form_of_the_kl_is_that_of_the_discrete_guide():
    pair, x = make(), images(3)
    particles = estimators.MeanFieldELBO(5).draw(pair.model, pair.guide, x)
    q = torch.distributions.Bernoulli(logits=pair.guide.encoder(x)[0])
    exact = torch.distributions.kl_divergence(q, torch.distributions.Bernoulli(logits=torch.zeros(3, 6))).sum(
        -1
    )
    torch.testing.assert_close(particles.kl("z"), exact.expand(5, -1))


def test_the_temperature_is_a_tensor_that_cools_in_training_alone_and_is_saved(tmp_path):
    pair, x = make(temperature=1.0, cooling=0.1, coldest=0.85), images(4)
    pair.eval()
    pair.guide(x)
    assert pair.guide.paths.temperature == 1
    pair.train()
    pair.guide(x)
    torch.testing.assert_close(pair.guide.paths.temperature, torch.tensor(0.9))
    pair.guide(x)
    torch.testing.assert_close(pair.guide.paths.temperature, torch.tensor(0.85))
    pair.guide.paths.temperature.fill_(0.3)
    pair.guide(x)
    assert pair.guide.paths.temperature == torch.tensor(0.3), "colder by hand than the coldest"
    pv.fit(pair, estimators.ELBO(), x, epochs=1, progress=False, run_dir=tmp_path, capture=False)
    assert pv.load(tmp_path).guide.paths.temperature == pair.guide.paths.temperature


def test_a_captured_step_cools_as_an_eager_one():
    pair = make(temperature=1.0, cooling=0.05).double()
    assert_same_steps(pair, estimators.ELBO(2), [(images(8).double(),)], make=sgd, steps=4)
    assert pair.guide.paths.temperature < 0.9


def test_codes_have_their_probabilities():
    pair, x = make("codes", "none"), images(2)
    site = poutine.trace(pair.guide).get_trace(x).nodes["z"]
    assert site["fn"].event_shape == (2, 3)
    wanted = pair.guide.encoder(x)[0].view(2, 2, 3).softmax(-1)
    torch.testing.assert_close(site["fn"].base_dist.probs, wanted)
    assert pv.encode(pair, x).latents["z"].sum() == 4


def test_bad_arguments_are_named():
    encoder = nets.MLPEncoder((5,), 4)
    for options, message in (
        ({"path": "gumbel"}, "path must be one of .* got 'gumbel'"),
        ({"temperature": 0.0}, "temperature must be a positive number"),
        ({"coldest": -1.0}, "coldest must be a positive number"),
        ({"cooling": 1.0}, r"cooling must be in \[0, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            guides.Bernoulli(encoder, **options)
    with pytest.raises(ValueError, match="latent_dim, 4, is no multiple of num_values=3"):
        guides.Categorical(encoder, 3)
