"""Two-sample tests: can anything tell the data from draws of the model?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.dependence import readings
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError
from ppl_vae.evaluate.exchangeable_pairs import discrepancy_of, told_apart
from ppl_vae.evaluate.kernels import median_distance
from ppl_vae.evaluate.lines import plus_minus, rows
from ppl_vae.evaluate.loop import check_pair_type
from ppl_vae.evaluate.replicates import Latents, Replicates


@dataclass(frozen=True)
class TwoSample:
    """How well data and draws of the model are told apart.

    Attributes:
        accuracy: of the classifier on data that it was not trained on: 0.5 where it cannot tell.
        standard_error: of `accuracy`, as if what it judges were independent.
        p_value: of the classifier's test.
        classifier: what it is.
        discrepancy: the squared maximum mean discrepancy, unbiased; nan where data are missing.
        discrepancy_p_value: its p-value, from swaps within pairs.
        bandwidth: of its Gaussian kernel.
        num_data: n, of the data and of the draws.
    """

    accuracy: float
    standard_error: float
    p_value: float
    classifier: str
    discrepancy: float
    discrepancy_p_value: float
    bandwidth: float
    num_data: int

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        told = f"p = {self.p_value:.2g}; {self.classifier}, 0.5 if there is no difference"
        lines = [("accuracy", plus_minus(self.accuracy, self.standard_error), told)]
        if math.isnan(self.discrepancy):
            return [*lines, ("MMD²", "-", "not of data with missing values")]
        remark = f"p = {self.discrepancy_p_value:.2g}; Gaussian kernel of width {self.bandwidth:.3g}"
        return [*lines, ("MMD²", f"{self.discrepancy:.3g}", remark)]

    def __str__(self) -> str:
        return rows(f"{self.num_data:,} data against as many draws of the model", self.lines())


@one_thread
@checked(num_folds=2)
def two_sample(
    pair: Pair,
    data: Any,
    *,
    classifier: Any = None,
    num_folds: int = 5,
    num_data: int | None = 2000,
    bandwidth: float | None = None,
    num_permutations: int = 499,
    latents: Latents = "prior",
    seed: int | None = 0,
) -> TwoSample:
    r"""Whether a classifier, or a kernel, tells data from draws of the model.

    .. math:: \mathrm{accuracy} \to \tfrac12 + \tfrac12 \mathrm{TV}(p_{\mathrm{data}}, p) \text{ at best},
        \qquad \mathrm{MMD}^2 = \mathrm{E}\, k(x, x') + \mathrm{E}\, k(y, y') - 2\, \mathrm{E}\, k(x, y)

    Each datum is paired with a draw that has its inputs and its missing values, and a pair is never parted
    between training and test. Within a pair the two are exchangeable if the model is right, and so the number
    of right answers where the classifier gives two different ones is Binomial(m, 1/2), exactly, in each fold.
    The accuracy is that of a cross-validation, whose folds share training data, so that a binomial test of it
    would be too liberal. The p-value comes from classifiers that are each trained on the folds before the one
    that they are tested on: these tests are independent, and Fisher's sum of -2 log p joins them. What a
    conditional model reads is shown to the classifier too.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        data: as in `predictive_check`; data of the training flatter the model.
        classifier: a classifier of scikit-learn's kind, cloned and fitted anew in each fold; a random forest
            of 100 trees for None.
        num_folds: of the cross-validation.
        num_data: n, drawn at random where there are more data; all for None.
        bandwidth: of the kernel; the median distance for None.
        num_permutations: of the kernel's test, whose p is at least 1 / (num_permutations + 1).
        latents: as in `predictive_check`.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.

    Raises:
        PairError: latents outside the `data` plate, with which draws are not independent.
        ValueError: fewer data than two pairs a fold; as `pv.sample`.

    Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, arXiv:1610.06545; Gretton et al., JMLR 13,
    2012; Fisher, Statistical Methods for Research Workers, 1932, for the sum.

    >>> from ppl_vae.testing.oracles import linear_gaussian
    >>> oracle = linear_gaussian()
    >>> two_sample(oracle.pair, torch.full((60, 2), 3.0, dtype=torch.float64), num_folds=2).p_value < 0.05
    True
    """
    check_pair_type(pair)
    if bandwidth is not None and not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth must be positive, got {bandwidth!r}")
    with questioning(pair, seed, pair.device):
        source = Replicates(pair, data, num_data, latents)
        if pair.shares:
            raise PairError(
                "evaluate.two_sample compares independent draws, and latents outside the plate 'data' make "
                "them depend on one another: move them into the plate, or ask for "
                "evaluate.predictive_check"
            )
        if len(source) < 2 * num_folds:
            raise ValueError(f"{num_folds} folds need {2 * num_folds} data or more, got {len(source)}")
        inputs = [
            source.batch[reading.argument]
            for reading in readings(pair.model, source.batch, pair.device)
            if reading.matters and not reading.data_of
        ]
        x = _features([*source.observed.values(), *inputs])
        y = _features([*source.draw().values(), *inputs])
        forest = int(torch.randint(2**31, ()))
        folds = torch.randperm(len(source)).numpy()
        accuracy, p_value, name = told_apart(x, y, classifier, np.array_split(folds, num_folds), forest)
        missing = bool(x.isnan().any())
        width = math.nan if missing else bandwidth or median_distance(x, y)
        discrepancy = discrepancy_of(x, y, width, num_permutations) if not missing else (math.nan, math.nan)
    return TwoSample(
        accuracy=accuracy,
        standard_error=math.sqrt(accuracy * (1 - accuracy) / (2 * len(x))),
        p_value=p_value,
        classifier=name,
        discrepancy=discrepancy[0],
        discrepancy_p_value=discrepancy[1],
        bandwidth=width,
        num_data=len(x),
    )


def _features(values: list[Tensor]) -> Tensor:
    return torch.cat([each.reshape(len(each), -1).cpu().double() for each in values], 1)
