"""The sigmoid belief network: its density layer by layer, its evidence through all states, training."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.core.drawing import draw
from tests.estimators.states import Given, make, states


def test_the_density_is_that_of_its_layers():
    pair, x = make("three layers")
    particles = draw(pair.model, pair.guide, (x,))
    z = {name: particles.guide_trace.nodes[name]["value"] for name in ("z1", "z2", "z3")}
    model = pair.model
    for name, logits in (
        ("z3", model.top.expand(2, 2)),
        ("z2", model.layers[1](z["z3"])[0]),
        ("z1", model.layers[0](z["z2"])[0]),
    ):
        expected = Bernoulli(logits=logits).log_prob(z[name]).sum(-1)
        torch.testing.assert_close(particles.log_prior[name][0], expected)
    expected = Bernoulli(logits=model.decoder(z["z1"])).log_prob(x).sum(-1)
    torch.testing.assert_close(particles.log_likelihood["x"][0], expected)


def test_importance_sampling_finds_the_evidence_of_all_states():
    pair, x = make("two layers")
    values, many = states(pair, x)
    particles = draw(pair.model, pair.guide, (many,), guide_handler=Given(values))
    joint = particles.reconstruction + sum(particles.log_prior.values())
    exact = joint.reshape(len(x), -1).logsumexp(1)
    found = evaluate.log_likelihood(pair, x, num_particles=20_000, progress=False)
    assert ((found.per_datum - exact).abs() < 4.5 * found.per_datum_monte_carlo_standard_error).all()


def test_it_trains_saves_and_loads(tmp_path):
    digits = data.load("digits")
    likelihood, dims, hidden = likelihoods.Bernoulli(), (30, 10), ((), ())
    model = models.SigmoidBeliefNetwork.dense(likelihood, digits.shape, dims, hidden)
    nets.centre_output(model.decoder, likelihood, digits.train.mean()[None])
    pair = pv.Pair(model, guides.BernoulliLayers.dense(digits.shape, dims, hidden))
    before = evaluate.bounds(pair, digits.test).elbo
    pv.fit(
        pair, estimators.VIMCO(4), digits, epochs=4, learning_rate=1e-2, run_dir=tmp_path, progress=False,
        capture=False,
    )  # fmt: skip
    found = evaluate.bounds(pv.load(tmp_path), digits.test).elbo
    assert found > before + 3
    assert pv.sample(pair, 4).latents["z2"].shape == (4, 10)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="decoder was built for latent_dim=3, but meets 4"):
        models.SigmoidBeliefNetwork(likelihoods.Bernoulli(), nets.MLPDecoder(3, (5,)), [], (4,))
    with pytest.raises(ValueError, match=r"2 latent layers \(4, 2\) need 1 nets"):
        models.SigmoidBeliefNetwork(likelihoods.Bernoulli(), nets.MLPDecoder(4, (5,)), [], (4, 2))
