"""Clusters against classes: by hand, by all permutations, and of a pair that was trained to cluster."""

from __future__ import annotations

import itertools

import pytest
import torch

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets, priors
from ppl_vae.evaluate import Clustering


def test_names_of_clusters_do_not_matter():
    labels = torch.tensor([0, 0, 1, 1, 2, 5])
    found = Clustering(torch.tensor([7, 7, 0, 0, 3, 1]), labels)
    assert (found.adjusted_rand_index, found.accuracy) == (1.0, 1.0)
    assert found.normalised_mutual_information == pytest.approx(1.0)
    assert found.matching == {7: 0, 0: 1, 3: 2, 1: 5}


def test_the_rand_index_by_counting_pairs():
    clusters, labels = torch.randint(4, (30,)), torch.randint(3, (30,))
    pairs = list(itertools.combinations(range(30), 2))
    together = torch.tensor(
        [[bool(c[i] == c[j]) for c in (clusters, labels)] for i, j in pairs], dtype=torch.float64
    )
    both, (one, two) = together.prod(1).sum(), together.sum(0)
    expected = one * two / len(pairs)
    exact = (both - expected) / ((one + two) / 2 - expected)
    assert Clustering(clusters, labels).adjusted_rand_index == pytest.approx(float(exact))


@pytest.mark.parametrize("num_clusters", [2, 3, 4])
def test_the_matching_is_the_best_of_all(num_clusters):
    clusters, labels = torch.randint(num_clusters, (40,)), torch.randint(3, (40,))
    names = [0, 1, 2, *[-1] * max(0, num_clusters - 3)]
    best = max(
        float((torch.tensor(each)[clusters] == labels).double().mean())
        for each in itertools.permutations(names, num_clusters)
    )
    assert Clustering(clusters, labels).accuracy == pytest.approx(best)


def test_a_trained_mixture_finds_separate_clusters():
    centres = 3 * torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0], [-1, 0, -1, 0]])
    y = torch.arange(150) % 3
    x = centres[y] + 0.3 * torch.randn(150, 4)
    prior = priors.MixtureOfGaussians(2, 3)
    likelihood = likelihoods.Gaussian(0.3, event_dim=1)
    model = models.MixtureVAE(likelihood, nets.MLPDecoder(2, (4,), (16,)), prior)
    pair = pv.Pair(model, guides.MeanField(nets.MLPEncoder((4,), 2, (16,))))
    options = {
        "epochs": 12,
        "batch_size": 50,
        "check": False,
        "learning_rate": 1e-2,
        "progress": False,
        "capture": False,
    }
    pv.fit(pair, estimators.ELBO(), x, **options)
    prior.initialise(pv.encode(pair, x).latents["z"])
    pv.fit(pair, estimators.ELBO(), x, **options)
    found = evaluate.clustering(pair, data.Split.from_tensor(x, y))
    assert found.accuracy == 1.0
    assert "adjusted Rand index  1.000  3 clusters, 3 classes" in str(found)


def test_what_is_no_pair_of_vectors_is_refused():
    with pytest.raises(ValueError, match=r"a whole number for each datum, \(N,\), got \(3,\) and \(2,\)"):
        Clustering(torch.zeros(3), torch.zeros(2))
