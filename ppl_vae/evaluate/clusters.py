"""How well a pair's clusters are the classes of data whose labels are known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread
from ppl_vae.core.pair import Pair
from ppl_vae.evaluate.labels import seen_probabilities
from ppl_vae.evaluate.lines import rows


@dataclass(frozen=True, eq=False)
class Clustering:
    r"""Clusters held against classes; also of clusters from elsewhere, `Clustering(clusters, labels)`.

    .. math:: \mathrm{ARI} = \frac{R - \mathbb{E}[R]}{\max R - \mathbb{E}[R]}, \qquad
        \mathrm{NMI} = \frac{2 I(c; y)}{H(c) + H(y)}, \qquad
        \mathrm{accuracy} = \max_\pi \frac1N \sum_i [\pi(c_i) = y_i]

    R counts the pairs of data that both put together or both part, and its expectation is that of clusters
    shuffled over the data. None of the three minds what the clusters are called.

    Attributes:
        clusters: (N,) whole numbers, the cluster of each datum.
        labels: (N,) whole numbers, its class.

    Raises:
        ValueError: for no data, or for tensors that are not (N,) both.

    >>> found = Clustering(torch.tensor([2, 2, 0, 0, 1]), torch.tensor([0, 0, 1, 1, 1]))
    >>> found.matching, found.accuracy
    ({0: 1, 2: 0}, 0.8)
    """

    clusters: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        shapes = tuple(self.clusters.shape), tuple(self.labels.shape)
        if len(shapes[0]) != 1 or shapes[0] != shapes[1] or not len(self.labels):
            raise ValueError(
                f"clusters and labels are a whole number for each datum, (N,), got {shapes[0]} and "
                f"{shapes[1]}"
            )

    @cached_property
    def adjusted_rand_index(self) -> float:
        """1 for the classes themselves, about 0 by chance, and below for worse than that."""
        from sklearn.metrics import adjusted_rand_score  # not at the top: it is slow to import

        return float(adjusted_rand_score(self.labels.cpu(), self.clusters.cpu()))

    @cached_property
    def normalised_mutual_information(self) -> float:
        """Between 0 and 1, by the mean of the two entropies; it rises with the number of clusters."""
        from sklearn.metrics import normalized_mutual_info_score

        return float(normalized_mutual_info_score(self.labels.cpu(), self.clusters.cpu()))

    @cached_property
    def matching(self) -> dict[int, int]:
        """The class of each cluster, no two of the same, by which most data are right (Hungarian method);
        clusters that are left over have none.
        """
        from scipy.optimize import linear_sum_assignment

        clusters, place = self.clusters.cpu().unique(return_inverse=True)
        classes, label = self.labels.cpu().unique(return_inverse=True)
        counts = torch.zeros(len(clusters), len(classes), dtype=torch.long)
        counts.index_put_((place, label), torch.ones_like(place), accumulate=True)
        chosen = zip(*linear_sum_assignment(counts.numpy(), maximize=True))
        return {int(clusters[row]): int(classes[column]) for row, column in chosen}

    @property
    def accuracy(self) -> float:
        """The share of data whose cluster is matched to their class.

        The matching is chosen on the same data, so that even clusters by chance have more than 1 / C.
        """
        matched = self.matching
        right = [matched.get(int(c)) == int(y) for c, y in zip(self.clusters, self.labels)]
        return sum(right) / len(right)

    def lines(self) -> list[tuple[str, str, str]]:
        """Name, value and remark of each line of the table."""
        sizes = f"{len(self.clusters.unique())} clusters, {len(self.labels.unique())} classes"
        return [
            ("adjusted Rand index", f"{self.adjusted_rand_index:.3f}", sizes),
            ("mutual information", f"{self.normalised_mutual_information:.3f}", "normalised"),
            ("accuracy", f"{self.accuracy:.3f}", "one class a cluster, matched on these data"),
        ]

    def __str__(self) -> str:
        return rows(f"{len(self.labels):,} data with a label", self.lines())


@one_thread
@checked()
def clustering(
    pair: Pair,
    data: Any,
    *,
    site: str = "y",
    num_particles: int = 100,
    batch_size: int = 1000,
    seed: int | None = 0,
) -> Clustering:
    """Hold a pair's clusters, which it found by itself, against known classes, not shown to it.

    The cluster of a datum is the likeliest value of a finite site, as `queries.class_probabilities` has it.

    Args:
        pair: the trained pair.
        data: a `data.Split` with labels, or whatever `data.as_split` takes; rows without a label are left
            out.
        site: the finite latent site that stands for the cluster.
        num_particles: of the posterior, for a site that the model sums over.
        batch_size: data at a time.
        seed: of the draws.

    Raises:
        DataError: for data without labels.
        ValueError: for a site that the pair does not have; names those that it has.

    >>> from ppl_vae import data, guides, likelihoods, models, nets, priors
    >>> likelihood, decoder = likelihoods.Gaussian(event_dim=1), nets.MLPDecoder(2, shape=(5,))
    >>> model = models.MixtureVAE(likelihood, decoder, priors.MixtureOfGaussians(2, num_components=4))
    >>> pair = Pair(model, guides.MeanField(nets.MLPEncoder((5,), latent_dim=2)))
    >>> found = clustering(pair, data.Split.from_tensor(torch.randn(40, 5), torch.arange(40) % 3))
    >>> found.clusters.shape, 0 <= found.accuracy <= 1
    (torch.Size([40]), True)
    """
    probabilities, labels = seen_probabilities(pair, data, site, num_particles, batch_size, seed)
    return Clustering(probabilities.argmax(-1), labels)
