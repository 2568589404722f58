"""The conditional VAE: bounds on log p(x | y), and every question with a label of choice."""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.testing import check_pair
from tests.capture.helpers import assert_same_steps

SHAPE, LATENT, CLASSES = (1, 4, 4), 2, 3


def make(conditional_prior=True, move=True):
    decoder = nets.MLPDecoder(LATENT + CLASSES, SHAPE, (8,))
    model = models.ConditionalVAE(likelihoods.Bernoulli(), decoder, LATENT, CLASSES, conditional_prior)
    guide = guides.Conditional(nets.MLPEncoder(SHAPE, LATENT, (8,)), CLASSES)
    if move:
        for parameter in [*model.parameters(recurse=False), *guide.parameters(recurse=False)]:
            torch.nn.init.normal_(parameter, std=0.3)
    return pv.Pair(model, guide, example=batch(1))


def batch(size=6, dtype=torch.float32):
    return (torch.rand(size, *SHAPE) < 0.5).to(dtype), torch.arange(size) % CLASSES


@pytest.mark.parametrize("conditional_prior", [True, False])
def test_contract(conditional_prior):
    pair = make(conditional_prior)
    report = check_pair(pair, *batch(), estimator=estimators.DReG(num_particles=3))
    assert (report.latent_sites, report.observed_sites) == ({"z": (LATENT,)}, {"x": SHAPE})


def test_samples_of_a_chosen_label_follow_that_labels_prior():
    pair = make()
    draws = pv.sample(pair, 4000, inputs={"y": 2}, seed=0)
    loc = pair.model.prior_loc[2].detach()
    assert ((draws.latent.mean(0) - loc).abs() < 4.5 * draws.latent.std(0) / 4000**0.5).all()
    each = pv.sample(pair, 6, inputs={"y": torch.tensor([0, 1, 2, 0, 1, 2])}, seed=0)
    z, y = each.latent, torch.tensor([0, 1, 2, 0, 1, 2])
    raw = pair.model.decoder(torch.cat([z, torch.eye(CLASSES)[y]], -1))
    torch.testing.assert_close(each.mean, raw.sigmoid().detach())
    again = pv.sample(pair, 6, like=(torch.zeros(3, *SHAPE), torch.arange(3)), seed=0)
    torch.testing.assert_close(again.mean, each.mean)


def test_every_question_takes_a_label():
    pair, (x, y) = make(), batch()
    z = pv.encode(pair, x, y).mean

    def decoder(z, labels):
        return pair.model.decoder(torch.cat([z, torch.eye(CLASSES)[labels]], -1)).sigmoid().detach()

    torch.testing.assert_close(pv.decode(pair, z, inputs={"y": y}).mean, decoder(z, y))
    torch.testing.assert_close(pv.decode(pair, z, like=(x, y)).mean, decoder(z, y))
    other = pv.reconstruct(pair, x, y, inputs={"y": 1}, seed=0)
    torch.testing.assert_close(other.latent, pv.reconstruct(pair, x, y, seed=0).latent)  # the guide saw y
    torch.testing.assert_close(other.mean, decoder(other.latent, torch.ones(6, dtype=torch.long)))
    path = pv.interpolate(pair, (x[:2], y[:2]), (x[2:4], y[2:4]), steps=3, inputs={"y": 2})
    torch.testing.assert_close(path.latent[0], z[:2])
    torch.testing.assert_close(path.mean[0], decoder(z[:2], torch.full((2,), 2)))
    own = pv.interpolate(pair, (x[:2], y[:2]), (x[2:4], y[2:4]), steps=3)
    torch.testing.assert_close(own.mean[0], decoder(z[:2], y[:2]))
    walk = pv.traverse(pair, (x, y), dims=[0], values=[0.5], inputs={"y": 0})
    moved = torch.cat([torch.full((6, 1), 0.5), z[:, 1:]], 1)
    torch.testing.assert_close(walk.mean[0, 0], decoder(moved, torch.zeros(6, dtype=torch.long)))


def test_the_bound_is_one_on_x_given_y(double):
    pair, (x, y) = make().double(), batch(4, torch.float64)
    grid = torch.linspace(-9, 9, 181)
    z = torch.cartesian_prod(grid, grid)
    exact = []
    for datum, label in zip(x, y, strict=True):
        labels = label.expand(len(z))
        with torch.no_grad():
            raw = pair.model.decoder(torch.cat([z, torch.eye(CLASSES)[labels]], -1))
            likelihood = pair.model.likelihood(raw).log_prob(datum)
            scale = pv.nets.scale.positive_scale(pair.model.prior_raw_scale[label])
            prior = torch.distributions.Normal(pair.model.prior_loc[label], scale).log_prob(z).sum(-1)
        exact.append((likelihood + prior).logsumexp(0) + 2 * torch.log(grid[1] - grid[0]))
    result = evaluate.log_likelihood(pair, (x, y), 20_000, progress=False)
    error = result.per_datum_monte_carlo_standard_error
    assert ((result.per_datum - torch.stack(exact)).abs() < 4.5 * error + 1e-6).all()
    bound = evaluate.bounds(pair, (x, y), 2000).per_datum
    assert (bound < torch.stack(exact)).all()


def test_labelled_digits_are_drawn_by_class(tmp_path):
    digits = data.load("digits", labels=True)
    decoder = nets.MLPDecoder(2 + 10, digits.shape, (64,))
    model = models.ConditionalVAE(likelihoods.Bernoulli(), decoder, 2, 10)
    pair = pv.Pair(model, guides.Conditional(nets.MLPEncoder(digits.shape, 2, (64,)), 10))
    pv.fit(
        pair,
        estimators.MeanFieldELBO(),
        digits,
        epochs=15,
        batch_size=50,
        learning_rate=5e-3,
        progress=False,
        run_dir=tmp_path,
    )
    pair = pv.load(tmp_path)
    y = torch.arange(10)
    means = pv.sample(pair, 500, inputs={"y": y.repeat(50)}, seed=0).mean.view(50, 10, -1).mean(0)
    x, labels = data.load("digits", labels=True, binarise=None).test.tensors()
    nearest = torch.cdist(x.flatten(1), means).argmin(1)
    assert (nearest == labels).float().mean() > 0.75  # the nearest centroid of real digits gets 0.9
    assert evaluate.summary(pair, digits.test.take(50), 50, progress=False)
    with pytest.raises(pv.PairError, match="its prior is not one for all data"):
        evaluate.elbo_surgery(pair, digits.test.take(50))
    holes = evaluate.holes(pair, digits.test)
    assert 0 <= holes.share <= 1


@pytest.mark.parametrize("conditional_prior", [True, False])
def test_captured_steps_equal_eager_ones(conditional_prior):
    assert_same_steps(
        make(conditional_prior).double(), estimators.MeanFieldELBO(), [batch(8, torch.float64)], steps=3
    )


def test_mistakes():
    pair, (x, y) = make(), batch()
    with pytest.raises(ValueError, match=r"2 \+ 3 = 5, but the decoder was built for 2"):
        models.ConditionalVAE(likelihoods.Bernoulli(), nets.MLPDecoder(2, SHAPE), 2, 3)
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=rf"whole numbers in 0 ... 2, found {wrong}"):
            pv.encode(pair, x, y.clone().fill_(wrong))
    with pytest.raises(ValueError, match=r"the model takes \['y'\].*inputs=\{'y': ...\}"):
        pv.sample(pair, 3)
