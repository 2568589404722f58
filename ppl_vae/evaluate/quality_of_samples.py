"""The quality of a model's samples, in the space of a network's features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair
from ppl_vae.data import Split
from ppl_vae.evaluate.feature_networks import features_of, hash_of, train_classifier
from ppl_vae.evaluate.lines import rows
from ppl_vae.evaluate.loop import check_pair_type
from ppl_vae.evaluate.nearest_neighbours import neighbours
from ppl_vae.evaluate.replicates import Kind, Latents, Replicates
from ppl_vae.evaluate.sample_distances import frechet_of, kernel_distance
from ppl_vae.queries.arguments import tensor_of


@dataclass(frozen=True)
class SampleQuality:
    """Distances of a model's samples from as many data.

    Attributes:
        frechet: the squared Frechet distance of the features' normal laws; it grows as n falls.
        kernel: the squared discrepancy under the cubic kernel, unbiased; mean over subsets.
        kernel_spread: its standard deviation over subsets of 1,000; NaN where there are no more data.
        precision, recall, density, coverage: of nearest neighbours, see `nearest_neighbours.neighbours`.
        coverage_of_the_law: what coverage would be in the mean, if the samples had the data's law.
        num_data: n, of the data and of the samples.
        num_features: of the network.
        network: what it is: its name, its hash, and the accuracy of one that was trained here.
    """

    frechet: float
    kernel: float
    kernel_spread: float
    precision: float
    recall: float
    density: float
    coverage: float
    coverage_of_the_law: float
    num_data: int
    num_features: int
    network: str

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        few = "! fewer data than features" if self.num_data <= self.num_features else ""
        spread = f"± {self.kernel_spread:.2g} over subsets"
        if math.isnan(self.kernel_spread):
            spread = "of one subset: its spread shows from 1,001 data on"
        return [
            ("Frechet distance", f"{self.frechet:.4g}", few or f"of n = {self.num_data:,}"),
            ("kernel distance", f"{self.kernel:.3g}", spread),
            ("precision", f"{self.precision:.3f}", ""),
            ("recall", f"{self.recall:.3f}", ""),
            ("density", f"{self.density:.3f}", "1 for the data's law"),
            ("coverage", f"{self.coverage:.3f}", f"{self.coverage_of_the_law:.3f} for the data's law"),
            ("features", f"{self.num_features}", self.network),
        ]

    def __str__(self) -> str:
        return rows(f"{self.num_data:,} samples against as many data", self.lines())


@one_thread
@checked()
def sample_quality(
    pair: Pair,
    data: Any,
    features: Any = None,
    *,
    num_data: int | None = 5000,
    neighbour: int = 5,
    kind: Kind = "draw",
    latents: Latents = "prior",
    site: str | None = None,
    labels: Any = None,
    seed: int | None = 0,
) -> SampleQuality:
    r"""Frechet and kernel distances, precision, recall, density and coverage of the model's samples.

    All are of features: those of a network that is named, or of a small classifier that is trained here on
    the data's labels. A number means nothing without its network, whose hash stands with it, and without n:
    the Frechet distance is biased upwards, by more the fewer data there are. The literature's numbers need
    Inception's features, given as `features`.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        data: as in `predictive_check`; best data that the pair was not trained on.
        features: a module, or a function, from (n, *event) to (n, F), run in eval mode on the pair's device;
            `torch.nn.Flatten()` for the values themselves. None trains a classifier, with labels.
        num_data: n, drawn at random where there are more data; all for None.
        neighbour: k, of the balls.
        kind: samples as the likelihood's "draw" or its "mean", which pictures show and data are not.
        latents: as in `predictive_check`.
        site: the observed site; needed when there are several.
        labels: (N,) classes of the data, for the classifier; a split's own by default.
        seed: of the draws and of the classifier; the caller's random numbers stay as they were. None draws
            from those.

    Raises:
        ValueError: neither features nor labels; features that are not (n, F) finite numbers; fewer data than
            neighbours; as `pv.sample`.

    Heusel et al., arXiv:1706.08500 (Frechet); Binkowski et al., arXiv:1801.01401 (kernel); Kynkäänniemi et
    al., arXiv:1904.06991 (precision, recall); Naeem et al., arXiv:2002.09797 (density, coverage).

    >>> from ppl_vae.testing.oracles import linear_gaussian
    >>> oracle = linear_gaussian()
    >>> far = torch.full((40, 2), 9.0, dtype=torch.float64) + torch.randn(40, 2)
    >>> sample_quality(oracle.pair, far, torch.nn.Flatten()).coverage
    0.0
    """
    check_pair_type(pair)
    if features is not None and not callable(features):
        raise ValueError(f"features must be a module or a function of a batch, got {features!r:.80}")
    with questioning(pair, seed, pair.device):
        source = Replicates(pair, data, num_data, latents, [] if site is None else [site], kind)
        name, real = source.the_only()
        if len(real) <= neighbour + 1:
            raise ValueError(f"the ball to neighbour {neighbour} needs more data than {len(real)}")
        made = source.draw()[name]
        about = ""
        if features is None:
            features, accuracy = train_classifier(_floats(real), _labels(data, labels, source))
            about = f", trained here: {accuracy:.1%} right"
        x, y = (features_of(features, _floats(each)) for each in (real, made))
        kernel, spread = kernel_distance(x, y)
        found = neighbours(x, y, neighbour)
    n = len(x)
    missed = 1.0
    for j in range(neighbour):
        missed *= (n - 1 - j) / (2 * n - 1 - j)
    return SampleQuality(
        frechet=frechet_of(x, y),
        kernel=kernel,
        kernel_spread=spread,
        **found._asdict(),
        coverage_of_the_law=1 - missed,
        num_data=n,
        num_features=x.shape[1],
        network=f"{_name(features)} {hash_of(features)}{about}",
    )


def _floats(values: Tensor) -> Tensor:
    values = values.unsqueeze(1) if values.dim() == 1 else values  # a number a datum is a vector of one
    return values if values.is_floating_point() else values.to(torch.get_default_dtype())


def _name(features: Any) -> str:
    return type(features).__name__ if isinstance(features, torch.nn.Module) else "function"


def _labels(data: Any, labels: Any, source: Replicates) -> Tensor:
    """The classes of the data that were chosen."""
    known = data.y if labels is None and isinstance(data, Split) else labels
    if known is None:
        raise ValueError(
            "the samples are judged by a network's features: name one, features=..., or give labels=, on "
            "which a small classifier is trained; torch.nn.Flatten() takes the values themselves"
        )
    try:
        classes = tensor_of(known).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError("labels must be class numbers, (N,): turn names into numbers first") from None
    if classes.shape != source.chosen.shape:
        raise ValueError(
            f"labels must be {tuple(source.chosen.shape)}, one for each datum, got {classes.shape}"
        )
    if classes.is_floating_point() and bool((classes != classes.round()).any()):
        raise ValueError(
            f"labels must be class numbers, got {classes.unique()[:3].tolist()} ...: give classes, or "
            "features="
        )
    return classes[source.chosen].to(source.batch[0].device)
