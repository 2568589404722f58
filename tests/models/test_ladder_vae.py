"""The ladder: its KL by layer, its two guides, the two-layer network of the IWAE paper."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.distributions import Normal, kl_divergence

import ppl_vae as pv
from ppl_vae import data, estimators, guides, likelihoods, models
from ppl_vae.testing import check_pair
from tests.capture.helpers import assert_same_steps
from tests.conftest import SIGMAS

SHAPE, DIMS, HIDDEN = (1, 8, 8), (5, 4, 3), ((12,), (10,), (8,))
IWAE_SIZES = ((100, 50), ((200, 200), (100, 100)))


def make(direction="top-down", skip=False, net="dense"):
    likelihood = likelihoods.Bernoulli()
    if net == "conv":
        sizes = {"channels": 4, "num_features": 12, "hidden": HIDDEN[1:]}
        model = models.LadderVAE.convolutional(likelihood, SHAPE, DIMS, skip=skip, **sizes)
        if direction == "bottom-up":
            return pv.Pair(model, guides.BottomUp.convolutional(SHAPE, DIMS, **sizes))
        return pv.Pair(model, guides.TopDown.convolutional(SHAPE, model.layers, DIMS, skip=skip, **sizes))
    model = models.LadderVAE.dense(likelihood, SHAPE, DIMS, HIDDEN, skip)
    if direction == "bottom-up":
        return pv.Pair(model, guides.BottomUp.dense(SHAPE, DIMS, HIDDEN))
    return pv.Pair(model, guides.TopDown.dense(SHAPE, model.layers, DIMS, HIDDEN, skip))


@pytest.fixture
def x():
    return torch.randint(0, 2, (6, *SHAPE)).to(torch.get_default_dtype())


@pytest.mark.parametrize("net", ["dense", "conv"])
@pytest.mark.parametrize("skip", [False, True], ids=["chain", "skip"])
@pytest.mark.parametrize("direction", ["bottom-up", "top-down"])
def test_every_combination_keeps_the_contract(direction, skip, net, x):
    pair = make(direction, skip, net)
    report = check_pair(pair, x, estimator=estimators.IWAE(3))
    assert report.latent_sites == {"z1": (5,), "z2": (4,), "z3": (3,)}
    assert pv.interpolate(pair, x[:2], x[2:4], steps=3, free=("z1", "z2")).value.shape == (3, 2, *SHAPE)


@pytest.mark.parametrize("direction", ["bottom-up", "top-down"])
def test_the_kl_terms_of_the_layers_sum_to_the_total(double, direction, x):
    pair = make(direction, skip=True)
    particles = estimators.ELBO(4).draw(pair.model, pair.guide, x)
    total = torch.stack([particles.kl_sample(f"z{layer}") for layer in (1, 2, 3)]).sum(0)
    torch.testing.assert_close(particles.reconstruction - total, particles.log_weight)
    # log q(z | x) - log p(z) of the whole hierarchy, from the densities and no particles
    guide, model = particles.guide_trace, particles.model_trace
    for trace in (guide, model):
        trace.compute_log_prob()
    joint = sum(
        guide.nodes[f"z{layer}"]["log_prob"] - model.nodes[f"z{layer}"]["log_prob"] for layer in (1, 2, 3)
    )
    torch.testing.assert_close(joint, total)


def test_the_logs_have_the_kl_of_each_layer(x):
    pair = make()
    run = pv.fit(pair, estimators.MeanFieldELBO(), data.Split.from_tensor(x), epochs=2, progress=False)
    row = run.history.iloc[-1]
    total = sum(row[f"train_kl_z{layer}"] for layer in (1, 2, 3))
    assert row["train_elbo"] == pytest.approx(row["train_reconstruction"] - total, abs=1e-3)


def test_closed_forms_are_there_top_down_and_not_bottom_up(double, x):
    torch.manual_seed(0)
    pair = make("top-down")
    particles = estimators.ELBO(20_000).draw(pair.model, pair.guide, x[:2])
    for layer in (1, 2, 3):
        exact, sampled = particles.kl_closed_form(f"z{layer}"), particles.kl_sample(f"z{layer}")
        difference = sampled - exact
        error = difference.std(0) / 20_000**0.5
        assert bool((difference.mean(0).abs() < SIGMAS * error + 1e-12).all())
    pair = make("bottom-up")
    particles = estimators.ELBO(2).draw(pair.model, pair.guide, x)
    assert [particles.kl_closed_form(f"z{layer}") for layer in (1, 2)] == [None, None]


def test_the_top_layer_is_drawn_from_the_evidence_and_the_others_from_the_merge(double, x):
    pair = make()
    guide = pair.guide
    particles = estimators.ELBO().draw(pair.model, guide, x)
    nodes = particles.guide_trace.nodes
    features = x
    evidence = []
    for encoder in guide.encoders:
        features = encoder.trunk(features)
        evidence.append(encoder.head(features))
    torch.testing.assert_close(nodes["z3"]["fn"].mean, evidence[2][0])
    loc, scale = evidence[1]
    prior_loc, prior_scale = pair.model.layers[1](nodes["z3"]["value"])
    precision, prior_precision = scale**-2, prior_scale**-2
    mean = (loc * precision + prior_loc * prior_precision) / (precision + prior_precision)
    torch.testing.assert_close(nodes["z2"]["fn"].mean, mean)
    torch.testing.assert_close(nodes["z2"]["fn"].variance, 1 / (precision + prior_precision))
    expected = kl_divergence(Normal(mean, nodes["z2"]["fn"].stddev), Normal(prior_loc, prior_scale)).sum(-1)
    torch.testing.assert_close(particles.kl("z2")[0], expected)


def test_the_generative_path_is_shared_and_stays_so_in_a_run_folder(x, tmp_path):
    pair = make(skip=True)
    assert all(a is b for a, b in zip(pair.model.layers, pair.guide.layers, strict=True))
    split = data.Split.from_tensor(x)
    pv.fit(pair, estimators.IWAE(2), split, epochs=2, progress=False, run_dir=tmp_path / "run")
    again = pv.load(tmp_path / "run")
    assert again.model.layers[0] is again.guide.layers[0]
    torch.testing.assert_close(pv.encode(again, x).means["z3"], pv.encode(pair, x).means["z3"])


def test_two_layers_of_the_right_sizes_are_the_network_of_the_iwae_paper():
    shape = (1, 28, 28)
    model = models.LadderVAE.dense(likelihoods.Bernoulli(), shape, *IWAE_SIZES)
    guide = guides.BottomUp.dense(shape, *IWAE_SIZES)

    def layers(*widths):
        return sum(a * b + b for a, b in itertools.pairwise(widths))

    # x-200-200-h1(100)-100-100-h2(50), a location and a scale for each latent unit
    wanted = layers(784, 200, 200, 2 * 100) + layers(100, 100, 100, 2 * 50)
    assert sum(p.numel() for p in guide.parameters()) == wanted
    wanted = layers(50, 100, 100, 2 * 100) + layers(100, 200, 200, 784)
    assert sum(p.numel() for p in model.parameters()) == wanted
    activations = [m for m in (*model.modules(), *guide.modules()) if isinstance(m, torch.nn.Tanh)]
    assert len(activations) == 8


def test_one_layer_is_the_vae(double, x):
    torch.manual_seed(0)
    ladder = models.LadderVAE.dense(likelihoods.Bernoulli(), SHAPE, (4,), ((12,),))
    guide = guides.BottomUp.dense(SHAPE, (4,), ((12,),))
    particles = estimators.ELBO(3).draw(ladder, guide, x)
    plain = pv.Pair(models.VAE(ladder.likelihood, ladder.decoder, 4), guides.MeanField(guide.encoders[0]))
    z = particles.guide_trace.nodes["z1"]["value"]
    logits = plain.model.decoder(z)
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(x).flatten(2).sum(-1)
    torch.testing.assert_close(particles.reconstruction, expected)


def test_sizes_that_do_not_fit_are_refused():
    likelihood = likelihoods.Bernoulli()
    with pytest.raises(ValueError, match="need hidden widths for 2 nets between them"):
        models.LadderVAE.dense(likelihood, SHAPE, DIMS, HIDDEN[:2])
    with pytest.raises(ValueError, match="need hidden widths for 2 nets"):
        guides.BottomUp.dense(SHAPE, DIMS, HIDDEN[:2])
    model = models.LadderVAE.dense(likelihood, SHAPE, DIMS, HIDDEN)
    with pytest.raises(ValueError, match="need 2 nets between them, got 1"):
        models.LadderVAE(likelihood, model.decoder, model.layers[:1], DIMS)
    with pytest.raises(ValueError, match="built for latent_dim=5, but meets 12"):
        models.LadderVAE(likelihood, model.decoder, model.layers, DIMS, skip=True)
    with pytest.raises(ValueError, match=r"3 encoders .* got 1"):
        guides.TopDown(make().guide.encoders, model.layers[:1])


@pytest.mark.parametrize("direction", ["bottom-up", "top-down"])
def test_the_captured_step_is_the_eager_step(double, direction, x):
    estimator = estimators.MeanFieldELBO() if direction == "top-down" else estimators.IWAE(2)
    assert_same_steps(make(direction, skip=True), estimator, [(x,)], steps=5)
