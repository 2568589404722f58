"""Areas under the curves of a score that is to tell two kinds apart."""

from __future__ import annotations

import math

from torch import Tensor


def area_under_roc(score: Tensor, strange: Tensor) -> tuple[float, float]:
    """The area under the receiver's curve and its standard error, ties half; infinite scores may be there.

    DeLong, DeLong and Clarke-Pearson, Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves, Biometrics 44, 1988.

    >>> import torch
    >>> area_under_roc(torch.tensor([0.0, 1.0, 1.0, 2.0]), torch.tensor([False, False, True, True]))[0]
    0.875
    """
    from scipy.stats import rankdata

    values, chosen = score.numpy(), strange.numpy()
    ranks, many, few = rankdata(values), int((~chosen).sum()), int(chosen.sum())
    # the share of the other kind that each datum beats
    of_strange = (ranks[chosen] - rankdata(values[chosen])) / many
    of_normal = 1 - (ranks[~chosen] - rankdata(values[~chosen])) / few
    if min(many, few) < 2:
        return float(of_strange.mean()), math.nan
    variance = of_strange.var(ddof=1) / few + of_normal.var(ddof=1) / many
    return float(of_strange.mean()), math.sqrt(variance)


def average_precision(score: Tensor, strange: Tensor) -> float:
    """The area under precision over recall as scikit-learn sums it; infinite scores may be there."""
    from scipy.stats import rankdata
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(strange.numpy(), rankdata(score.numpy())))
