"""Scores of disentanglement from codes (N, D) and factors (N, F): MIG, DCI, SAP and FactorVAE's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PRUNED = 0.05
"""The standard deviation below which FactorVAE's score takes a dimension of a code for unused."""

_FEWEST = 8  # rows of one level, of which batches are drawn


class DCI(NamedTuple):
    """Disentanglement, completeness and informativeness, and the (D, F) importances behind them."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Array


class Factors(NamedTuple):
    """Factors as the scores take them.

    Attributes:
        values: (N, F), as given.
        levels: (N, F), whole numbers 0, 1, ...: a discrete factor's values, or the bins of a continuous one.
        continuous: (F,) bool.
    """

    values: Array
    levels: Array
    continuous: Array


def as_factors(values: Array, continuous: Array, bins: int) -> Factors:
    """Factors with levels; a continuous one has bins of as many data each."""
    columns = []
    for column, smooth in zip(values.T, continuous):
        if smooth:
            edges = np.unique(np.quantile(column, np.linspace(0, 1, bins + 1)[1:-1]))
            columns.append(np.searchsorted(edges, column, side="right"))
        else:
            columns.append(np.unique(column, return_inverse=True)[1])
    return Factors(values, np.stack(columns, 1), continuous)


def mutual_information(codes: Array, levels: Array, bins: int) -> Array:
    """(D, F) nats between each dimension of the code, in `bins` of one width, and each factor.

    A dimension that is constant has one bin, whatever rounding says.
    """
    from sklearn.metrics import mutual_info_score

    found = np.zeros((codes.shape[1], levels.shape[1]))
    for i, code in enumerate(codes.T):
        span = float(np.ptp(code))
        if span <= 1e-9 * max(1.0, float(np.abs(code).max())):
            continue
        binned = np.minimum(((code - code.min()) / span * bins).astype(int), bins - 1)
        found[i] = [mutual_info_score(binned, level) for level in levels.T]
    return found


def mig(information: Array, levels: Array) -> Array:
    r"""(F,): the mutual information gap of each factor.

    .. math:: \frac{I(z_{j_1}; v) - I(z_{j_2}; v)}{H(v)}, \qquad j_1, j_2 \text{ the two best dimensions}
    """
    ordered = np.sort(information, axis=0)[::-1]
    shares = [np.bincount(level) / len(level) for level in levels.T]
    entropy = np.array([-(p[p > 0] * np.log(p[p > 0])).sum() for p in shares])
    return (ordered[0] - ordered[1]) / np.maximum(entropy, 1e-12)  # type: ignore[no-any-return]


def disentanglement(importance: Array) -> float:
    """1 where each dimension of the code matters to one factor alone, weighted by how much it matters.

    >>> disentanglement(np.eye(4)), disentanglement(np.ones((4, 4))) < 1e-9
    (1.0, True)
    """
    return _concentration(importance)


def completeness(importance: Array) -> float:
    """1 where each factor is seen by one dimension of the code alone.

    >>> round(completeness(np.concatenate([np.eye(5), np.eye(5)])), 6)  # 1 - log 2 / log 10
    0.69897
    """
    return _concentration(importance.T)


def _concentration(importance: Array) -> float:
    """One less the entropy of each row in units of its largest, weighted by the rows' sums."""
    sums = importance.sum(1)
    if sums.sum() <= 0:
        return 0.0
    shares = importance / np.where(sums > 0, sums, 1)[:, None]
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1) / np.log(importance.shape[1])
    return float((1 - entropy) @ sums / sums.sum())


def dci(train: Array, test: Array, factors: Factors, seed: int) -> DCI:
    """DCI with random forests of 50 trees; `factors` are those of train, then of test.

    Informativeness is the mean accuracy on test, for continuous factors R^2.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    importance = np.zeros((train.shape[1], factors.values.shape[1]))
    right = []
    for j, smooth in enumerate(factors.continuous):
        kind = RandomForestRegressor if smooth else RandomForestClassifier
        target = (factors.values if smooth else factors.levels)[:, j]
        forest = kind(50, min_samples_leaf=3, max_features=1.0, random_state=seed).fit(
            train, target[: len(train)]
        )
        importance[:, j] = forest.feature_importances_
        right.append(forest.score(test, target[len(train) :]))
    return DCI(disentanglement(importance), completeness(importance), float(np.mean(right)), importance)


def sap(train: Array, test: Array, factors: Factors, seed: int) -> Array:
    """(F,): how much better the best dimension of the code predicts each factor than the next best.

    Of a discrete factor by the accuracy of a linear support vector machine, of a continuous one by the
    squared correlation.
    """
    from sklearn.svm import LinearSVC

    score = np.zeros((train.shape[1], factors.values.shape[1]))
    for j, smooth in enumerate(factors.continuous):
        target = (factors.values if smooth else factors.levels)[:, j]
        for i in range(train.shape[1]):
            x, x_test = train[:, [i]], test[:, [i]]
            if smooth:
                score[i, j] = _squared_correlation(x[:, 0], target[: len(train)])
                continue
            machine = LinearSVC(C=0.01, class_weight="balanced", random_state=seed, dual=False)
            score[i, j] = machine.fit(x, target[: len(x)]).score(x_test, target[len(x) :])
    ordered = np.sort(score, axis=0)
    gaps: Array = ordered[-1] - ordered[-2]
    return gaps


def factor_vae(
    codes: Array, levels: Array, random: np.random.Generator, num_votes: int, batch_size: int = 64
) -> float:
    """How often the dimension that varies least, relative to all data, tells which factor was held fixed.

    Batches in which one factor has one level are drawn from the data, with replacement; a majority vote over
    `num_votes` of them is judged on half as many more.

    Raises:
        ValueError: for a factor of which no level has 8 data.
    """
    spread = codes.var(0, ddof=1)
    used = np.sqrt(spread) >= PRUNED
    if not used.any():
        return 0.0
    groups = []
    for j, level in enumerate(levels.T):
        rows = [np.flatnonzero(level == value) for value in np.unique(level)]
        groups.append([each for each in rows if len(each) >= _FEWEST])
        if not groups[-1]:
            raise ValueError(
                f"factor {j} has no level, or bin, of {_FEWEST} data or more, so it cannot be held fixed: "
                f"give more data or fewer bins, or name it in continuous="
            )
    votes = np.zeros((2, codes.shape[1], levels.shape[1]), int)
    for vote in range(num_votes + num_votes // 2):
        j = int(random.integers(len(groups)))
        held = groups[j][int(random.integers(len(groups[j])))]
        local = codes[held[random.integers(len(held), size=batch_size)]].var(0, ddof=1)
        relative = np.where(used, local / np.where(used, spread, 1), np.inf)
        votes[int(vote >= num_votes), relative.argmin(), j] += 1
    choice = votes[0].argmax(1)
    return float(votes[1][np.arange(len(choice)), choice].sum() / votes[1].sum())


def _squared_correlation(x: Array, y: Array) -> float:
    if x.var() < 1e-12 or y.var() < 1e-12:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1] ** 2)
