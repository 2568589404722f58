"""Tests of pairs, (x_i, y_i), that are exchangeable if both have one law: by classifiers, and by a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.evaluate.kernels import gaussian, paired_terms, squared_discrepancy


def told_apart(
    x: Tensor, y: Tensor, classifier: Any, folds: list[Any], seed: int
) -> tuple[float, float, str]:
    """The accuracy over all folds, their joint p-value and the classifier's name."""
    from scipy.stats import binom, chi2
    from sklearn.base import clone
    from sklearn.ensemble import RandomForestClassifier

    chosen = RandomForestClassifier(100, random_state=seed) if classifier is None else classifier
    pairs = np.stack([x.numpy(), y.numpy()], 1)

    def answers(train: Any, test: Any) -> Any:
        """What a classifier that has seen some pairs says of others, (n, 2)."""
        labels = np.tile([0, 1], len(train))
        fitted = clone(chosen).fit(pairs[train].reshape(2 * len(train), -1), labels)
        return fitted.predict(pairs[test].reshape(2 * len(test), -1)).reshape(-1, 2)

    right, evidence = 0, 0.0
    for number, test in enumerate(folds):
        others = np.concatenate([fold for each, fold in enumerate(folds) if each != number])
        right += int((answers(others, test) == [0, 1]).sum())
        if number:
            first, second = answers(np.concatenate(folds[:number]), test).T
            differ = first != second
            both = int((second[differ] == 1).sum())
            evidence -= 2 * float(binom.logsf(both - 1, int(differ.sum()), 0.5))
    p_value = float(chi2.sf(evidence, 2 * (len(folds) - 1)))
    return right / (2 * len(pairs)), p_value, type(chosen).__name__


def discrepancy_of(x: Tensor, y: Tensor, bandwidth: float, num_permutations: int) -> tuple[float, float]:
    """The squared discrepancy and its p-value."""
    terms = paired_terms(*(gaussian(first, second, bandwidth) for first, second in ((x, x), (y, y), (x, y))))
    signs = 2.0 * torch.randint(2, (num_permutations, len(terms))).double() - 1
    swapped = ((signs @ terms) * signs).sum(1)
    as_large = int((swapped >= terms.sum() - 1e-12 * terms.abs().sum()).sum())
    return squared_discrepancy(terms), (1 + as_large) / (num_permutations + 1)
