"""Distances of samples: closed forms of normal laws, what nearest neighbours do of one law, torchmetrics."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import evaluate
from ppl_vae.evaluate.feature_networks import features_of, hash_of, train_classifier
from ppl_vae.evaluate.nearest_neighbours import neighbours
from ppl_vae.evaluate.sample_distances import frechet, frechet_of, kernel_distance
from tests.conftest import SIGMAS
from tests.evaluate.programs import GlobalGuide, GlobalModel, stretched_pair

pytestmark = pytest.mark.usefixtures("double")


def test_frechets_distance_of_normal_laws():
    root, other = torch.randn(4, 4), torch.randn(4, 4)
    first, second, mean = root @ root.T, other @ other.T, torch.randn(4)
    expected = mean.square().sum() + (first + second).trace()
    expected -= 2 * np.trace(scipy.linalg.sqrtm(first.numpy() @ second.numpy())).real
    assert frechet(mean, first, torch.zeros(4), second) == pytest.approx(float(expected))
    # commuting covariances: the difference of the standard deviations
    a, b = torch.rand(3) + 0.1, torch.rand(3) + 0.1
    closed = float((a - b).square().sum())
    assert frechet(torch.zeros(3), a.square().diag(), torch.zeros(3), b.square().diag()) == pytest.approx(
        closed
    )
    assert frechet(torch.zeros(3), torch.zeros(3, 3), torch.ones(3), torch.zeros(3, 3)) == pytest.approx(3)


def test_against_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    kid = pytest.importorskip("torchmetrics.image.kid")
    x, y = torch.rand(150, 3, 4, 4), torch.rand(150, 3, 4, 4) ** 2
    net = nn.Flatten()
    net.num_features = 48
    metric = fid.FrechetInceptionDistance(feature=net, normalize=True)
    metric.update(x, real=True)
    metric.update(y, real=False)
    assert frechet_of(x.flatten(1), y.flatten(1)) == pytest.approx(float(metric.compute()), rel=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it keeps all features
        metric = kid.KernelInceptionDistance(feature=net, subsets=2, subset_size=150, normalize=True)
    metric.update(x, real=True)
    metric.update(y, real=False)
    theirs = float(metric.compute()[0])
    assert kernel_distance(x.flatten(1), y.flatten(1), 1, 150)[0] == pytest.approx(theirs, rel=1e-4)


def test_the_kernel_distance_of_one_law_is_zero_in_the_mean():
    found = [kernel_distance(torch.randn(60, 3), torch.randn(60, 3), 1)[0] for _ in range(60)]
    assert abs(np.mean(found)) < SIGMAS * np.std(found) / math.sqrt(60)


@pytest.mark.parametrize(("n", "m", "k"), [(100, 100, 5), (120, 60, 3)])
def test_neighbours_of_one_law(n, m, k):
    """Whatever the law: density is 1, and a ball stays empty as often as counting says."""
    missed = math.prod((n - 1 - j) / (n + m - 1 - j) for j in range(k))
    found = [neighbours(torch.randn(n, 2), torch.randn(m, 2), k) for _ in range(80)]
    for value, theory in (("density", 1.0), ("coverage", 1 - missed)):
        values = np.array([getattr(each, value) for each in found])
        assert abs(values.mean() - theory) < SIGMAS * values.std() / math.sqrt(80)


def test_neighbours_by_hand():
    x = torch.tensor([[0.0], [1.0], [3.0], [10.0]])
    y = torch.tensor([[0.5], [0.6], [2.5], [30.0]])
    found = neighbours(x, y, 1)  # balls of radius 1, 1, 2, 7 and 0.1, 0.1, 1.9, 27.5
    assert found.precision == 3 / 4
    assert found.recall == pytest.approx(3 / 4)  # 1, 3, 10
    assert found.density == pytest.approx((2 + 2 + 1) / 4)
    assert found.coverage == pytest.approx(3 / 4)


def test_lost_modes_and_wild_samples():
    x = torch.cat([torch.randn(150, 2), torch.randn(150, 2) + 20])
    lost = neighbours(x, torch.randn(300, 2), 5)
    assert lost.precision > 0.9
    assert lost.recall < 0.55
    assert lost.coverage < 0.55
    wild = neighbours(torch.randn(300, 2), 20 * torch.randn(300, 2), 5)
    assert wild.precision < 0.2
    assert wild.density < 0.2


def test_of_a_pair():
    pair = stretched_pair(1.0)
    pair.remember((torch.zeros(2, 5),))
    own, far = pv.sample(pair, 400, seed=9).value, 3 + 2 * torch.randn(400, 5)
    state = torch.get_rng_state()
    good, bad = (evaluate.sample_quality(pair, x, nn.Flatten()) for x in (own, far))
    assert torch.equal(torch.get_rng_state(), state)
    assert good.coverage_of_the_law == pytest.approx(1 - math.prod((399 - j) / (799 - j) for j in range(5)))
    assert abs(good.coverage - good.coverage_of_the_law) < 0.06
    assert abs(good.density - 1) < 0.15
    assert bad.frechet > 20 * good.frechet
    assert bad.kernel > 20 * abs(good.kernel)
    assert bad.coverage < 0.5
    assert good.num_data == 400
    assert "400 samples against as many data" in str(good)


def test_a_classifier_is_trained_on_labels_and_named():
    pair = stretched_pair(1.0)
    pair.remember((torch.zeros(2, 5),))
    x = torch.cat([torch.randn(150, 5) - 2, torch.randn(150, 5) + 2])
    labels = (torch.arange(300) >= 150).long() * 7
    first, again, other = (evaluate.sample_quality(pair, x, labels=labels, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert math.isnan(first.kernel_spread)  # of one subset
    assert "of one subset" in str(first)
    assert first.network != other.network
    assert first.num_features == 64
    assert "SmallClassifier" in first.network
    assert "% right" in first.network
    split = pv.data.Split.from_tensor(x, labels)
    assert evaluate.sample_quality(pair, split, num_data=100).num_data == 100
    with pytest.raises(ValueError, match=r"features=\.\.\., or give labels="):
        evaluate.sample_quality(pair, x)


def test_a_number_a_datum():
    pair = pv.Pair(GlobalModel(), GlobalGuide(), example=(torch.zeros(2),))
    assert evaluate.sample_quality(pair, torch.randn(30), nn.Flatten()).num_features == 1


def test_the_classifier_learns():
    x = torch.randn(600, 2, 3)
    y = (x[:, 0].sum(-1) > 0).long()
    net, accuracy = train_classifier(x, y)
    assert accuracy > 0.85
    assert features_of(net, x).shape == (600, 64)
    with pytest.raises(ValueError, match="two classes and 20 data, got 1"):
        train_classifier(x, torch.zeros(600))


def test_hashes_tell_weights_and_types():
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    assert hash_of(first) != hash_of(second)
    second.load_state_dict(first.state_dict())
    assert hash_of(first) == hash_of(second)
    assert hash_of(first.half()) != hash_of(second)
    assert hash_of(torch.relu) == "relu"


def test_refusals():
    pair = stretched_pair(1.0)
    x = torch.randn(30, 5)
    for features, options, match in (
        (nn.Flatten(), {"neighbour": 29}, "needs more data than 30"),
        (lambda x: x.sum(), {}, "features must give"),
        (lambda x: x / 0, {}, "not finite"),
        (nn.Flatten(), {"kind": "median"}, "'draw' or 'mean', got 'median'"),
        (nn.Flatten(), {"site": "y"}, "no observed site 'y'"),
        ("inception", {}, "must be a module or a function"),
        (None, {"labels": ["a"] * 30}, "labels must be class numbers"),
        (None, {"labels": torch.rand(30)}, "labels must be class numbers"),
        (None, {"labels": torch.zeros(3)}, r"labels must be \(30,\)"),
    ):
        with pytest.raises(ValueError, match=match):
            evaluate.sample_quality(pair, x, features, **options)
