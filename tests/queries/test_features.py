"""A data set seen through a trained guide, few labels, and the guide as a classifier."""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from ppl_vae import data, guides, likelihoods, models, nets
from ppl_vae.data.missing_labels import MISSING, few_labels
from ppl_vae.estimators.enumerated import EnumeratedELBO
from ppl_vae.queries import class_probabilities, latent_features

SHAPE = (1, 4, 4)


def vae():
    likelihood = likelihoods.Bernoulli()
    model = models.VAE(likelihood, nets.MLPDecoder(3, SHAPE, (8,)), 3)
    return pv.Pair(
        model, guides.MeanField(nets.MLPEncoder(SHAPE, 3, (8,))), example=(torch.zeros(1, *SHAPE),)
    )


def images(count=100, classes=5):
    return data.from_tensors(torch.rand(count, *SHAPE), torch.arange(count) % classes, labels=True)


def test_means_and_draws_keep_rows_labels_and_parts():
    pair, given = vae(), images()
    means = latent_features(pair, given, batch_size=32)
    assert [len(part) for part in (means.train, means.valid, means.test)] == [70, 10, 20]
    assert means.shape == (3,)
    z, y = means.test.tensors()
    x, labels = given.test.tensors()
    torch.testing.assert_close(z, pair.guide.encoder(x)[0])
    assert torch.equal(y, labels)
    draws = latent_features(pair, given.test, kind="draw", seed=5)
    again = latent_features(pair, given.test, kind="draw", seed=5)
    other = latent_features(pair, given.test, kind="draw", seed=6)
    assert torch.equal(draws.tensors()[0], again.tensors()[0])
    assert not torch.equal(draws.tensors()[0], other.tensors()[0])
    loc, scale = pair.guide.encoder(x)
    assert bool(((draws.tensors()[0] - loc).abs() < 6 * scale).all())


def test_the_site_is_named_where_there_are_several():
    likelihood = likelihoods.Bernoulli()
    model = models.LadderVAE.dense(likelihood, SHAPE, (4, 2), ((8,), (8,)))
    pair = pv.Pair(model, guides.BottomUp.dense(SHAPE, (4, 2), ((8,), (8,))))
    pair.remember((torch.zeros(1, *SHAPE),))
    split = images().test
    assert latent_features(pair, split, site="z2").shape == (2,)
    with pytest.raises(ValueError, match=r"\['z1', 'z2'\]: say which one"):
        latent_features(pair, split)
    with pytest.raises(ValueError, match="no latent site 'z'"):
        latent_features(pair, split, site="z")
    with pytest.raises(ValueError, match="kind must be"):
        latent_features(pair, split, kind="mode")


def test_m1_m2_is_a_stack_of_two_pairs():
    features = latent_features(vae(), images())
    train = few_labels(features.train, per_class=2, seed=1, repeat=3)
    model = models.SemiSupervisedVAE(
        likelihoods.Gaussian("learned", event_dim=1), nets.MLPDecoder(2 + 5, (3,), (8,)), 2, 5
    )
    guide = guides.SemiSupervised(
        nets.MLP(3, (8,), 5), torch.nn.Identity(), nets.MLPEncoder((3 + 5,), 2, (8,)), 5, enumerate=False
    )
    pair = pv.Pair(model, guide)
    run = pv.fit(pair, EnumeratedELBO(), train, epochs=2, progress=False)
    assert run.history["train_bound"].notna().all()
    z, y = features.test.tensors()
    probabilities = class_probabilities(pair, z)
    torch.testing.assert_close(probabilities, guide.classifier(z).softmax(-1))
    # with a label that is known there is nothing to guess
    assert torch.equal(class_probabilities(pair, z, y), torch.eye(5)[y])


def test_class_probabilities_of_other_finite_sites_and_of_none():
    pair = vae()
    with pytest.raises(ValueError, match="'z' has no finite list of values"):
        class_probabilities(pair, torch.zeros(2, *SHAPE), site="z")
    with pytest.raises(ValueError, match="no latent site 'y'"):
        class_probabilities(pair, torch.zeros(2, *SHAPE))


def test_few_labels_keeps_as_many_a_class_and_hides_the_rest():
    split = images().train
    small = few_labels(split, per_class=3, seed=0)
    assert len(small) == len(split)
    assert torch.equal(small.rows.tensor, split.rows.tensor)
    kept = small.y != MISSING
    assert torch.equal(small.y[kept], split.y[kept])
    assert torch.equal(small.y[kept].bincount(), torch.full((5,), 3))
    assert not torch.equal(kept, few_labels(split, per_class=3, seed=1).y != MISSING)
    assert torch.equal(kept, few_labels(split, per_class=3, seed=0).y != MISSING)
    assert len(few_labels(small, per_class=3, seed=2).y) == len(split)  # of those that are known


def test_labelled_rows_come_again_after_the_others():
    split = images().train
    small = few_labels(split, per_class=2, seed=0, repeat=4)
    assert len(small) == len(split) + 40
    x, y = small.tensors()
    assert bool((y[len(split) :] >= 0).all())
    first = small.y[: len(split)] >= 0
    assert torch.equal(x[len(split) :][:10], x[: len(split)][first])


def test_few_labels_refuses_what_cannot_be():
    split = images().train
    with pytest.raises(data.DataError, match=r"class \d has \d+ labelled rows, fewer than 60"):
        few_labels(split, per_class=60)
    with pytest.raises(data.DataError, match="has none"):
        few_labels(data.Split.from_tensor(torch.rand(5, 2)), per_class=1)
    with pytest.raises(data.DataError, match="give at least 1"):
        few_labels(split, per_class=0)
    with pytest.raises(data.DataError, match="all of them are missing"):
        few_labels(data.Split.from_tensor(torch.rand(5, 2), torch.full((5,), -1)), per_class=1)
