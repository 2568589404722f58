"""How well a pair tells the classes of data whose labels are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.missing import takes_missing
from ppl_vae.core.pair import Pair
from ppl_vae.data import DataError, as_split, for_pair
from ppl_vae.data.schema import MISSING
from ppl_vae.data.selection import taken_by
from ppl_vae.evaluate.lines import plus_minus, rows
from ppl_vae.queries.classes import class_probabilities


@dataclass(frozen=True, eq=False)
class Classification:
    r"""What `classification` found; `str` gives the table.

    .. math:: \mathrm{accuracy} = \frac1N \sum_i \bigl[y_i = \arg\max_c p(c \mid x_i)\bigr], \qquad
        \mathrm{log\ loss} = -\frac1N \sum_i \log p(y_i \mid x_i)

    Attributes:
        probabilities: (N, C) of each class, for the data that have a label.
        labels: (N,) the known labels.
    """

    probabilities: Tensor
    labels: Tensor

    @cached_property
    def right(self) -> Tensor:
        """(N,) whether the likeliest class is the known one."""
        return self.probabilities.argmax(-1) == self.labels

    @property
    def accuracy(self) -> float:
        """The share of data whose likeliest class is the known one."""
        return float(self.right.double().mean())

    @property
    def standard_error(self) -> float:
        """Of the accuracy, over the data."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / len(self.labels))

    @property
    def log_loss(self) -> float:
        """The mean of -log p(y | x), in nats per datum; infinite where a known class has probability 0."""
        known = self.probabilities.double().gather(-1, self.labels[:, None])
        return float(-known.log().mean())

    @property
    def by_class(self) -> Mapping[int, float]:
        """The share of right answers among the data of each class."""
        return {
            label: float(self.right[self.labels == label].double().mean())
            for label in self.labels.unique().tolist()
        }

    def lines(self) -> list[tuple[str, str, str]]:
        """Name, value and remark of each line of the table."""
        shares = self.by_class
        worst = min(shares, key=lambda label: shares[label])
        return [
            (
                "accuracy",
                plus_minus(self.accuracy, self.standard_error),
                f"of {len(self.labels):,} labels that were hidden; class {worst} the least, "
                f"{shares[worst]:.2f}",
            ),
            ("log loss", f"{self.log_loss:.2f}", "-log p(y | x)"),
        ]

    def __str__(self) -> str:
        return rows(f"{len(self.labels):,} data with a label", self.lines())


@one_thread
@checked()
def classification(
    pair: Pair,
    data: Any,
    *,
    site: str = "y",
    num_particles: int = 100,
    batch_size: int = 1000,
    seed: int | None = 0,
) -> Classification:
    """Judge a pair as a classifier, on data whose labels are known and not shown to it.

    The probabilities are those of `queries.class_probabilities`: the guide's classifier, or the posterior
    of a site that the model sums over. The argument `y` of a program is left out where it may be, and
    else -1.

    Args:
        pair: the trained pair.
        data: a `data.Split` with labels, or whatever `data.as_split` takes; rows without a label are left
            out.
        site: the finite latent site that stands for the class.
        num_particles: of the posterior, for a site that the model sums over.
        batch_size: data at a time.
        seed: of the draws.

    Raises:
        DataError: for data without labels, or with labels of more classes than the site has.
        ValueError: for a site that the pair does not have; names those that it has.

    >>> from ppl_vae import data, guides, likelihoods, models, nets
    >>> likelihood, decoder = likelihoods.Gaussian(event_dim=1), nets.MLPDecoder(2 + 3, shape=(5,))
    >>> model = models.SemiSupervisedVAE(likelihood, decoder, latent_dim=2, num_classes=3)
    >>> encoder = nets.MLPEncoder((5 + 3,), latent_dim=2)
    >>> guide = guides.SemiSupervised(torch.nn.Linear(5, 3), torch.nn.Identity(), encoder, num_classes=3)
    >>> rows = data.Split.from_tensor(torch.randn(40, 5), torch.arange(40) % 3)
    >>> found = classification(Pair(model, guide), rows)
    >>> found.probabilities.shape, 0 <= found.accuracy <= 1
    (torch.Size([40, 3]), True)
    """
    probabilities, labels = seen_probabilities(pair, data, site, num_particles, batch_size, seed)
    if int(labels.max()) >= probabilities.shape[-1]:
        raise DataError(
            f"label {int(labels.max())} is none of the {probabilities.shape[-1]} values of site {site!r}"
        )
    return Classification(probabilities, labels)


def seen_probabilities(
    pair: Pair, data: Any, site: str, num_particles: int, batch_size: int, seed: int | None
) -> tuple[Tensor, Tensor]:
    """The probabilities of a finite site's values, (N, C), from data whose labels are not shown, and these
    labels, (N,).
    """
    split = as_split(data, takes_missing(pair.model))
    if split.y is None or not bool((split.y != MISSING).any()):
        raise DataError("to judge classes takes labels, and the data has none: give y")
    if bool((split.y == MISSING).any()):
        split = split[(split.y != MISSING).nonzero()[:, 0]]
    assert split.y is not None
    seen = for_pair(split, pair).to(pair.device)
    names, taken = list(seen.names), taken_by(pair)
    place = names.index("y") if seen.with_labels else None
    optional = taken is not None and "y" not in taken.required and place == len(names) - 1
    found = []
    with questioning(pair, seed, pair.device):
        for batch in seen.batches(batch_size):
            given = list(batch)
            if place is not None:
                given[place] = torch.full_like(batch[place], MISSING)
            shown = given[:-1] if optional else given
            found.append(class_probabilities(pair, *shown, site=site, num_particles=num_particles))
    return torch.cat(found).cpu(), split.y.cpu()
