"""Distances of two sets of features: Frechet's, and the kernel's."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ppl_vae.evaluate.kernels import polynomial, unbiased


def frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    r"""The squared Frechet (Wasserstein-2) distance of two normal laws.

    .. math:: |\mu_1 - \mu_2|^2 + \mathrm{tr}\bigl(\Sigma_1 + \Sigma_2 -
        2 (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2}\bigr)

    By symmetric eigenvalues alone, so that singular covariances (fewer data than features) are no trouble.

    >>> eye = torch.eye(3, dtype=torch.float64)
    >>> round(frechet(torch.zeros(3), eye, torch.ones(3), 4 * eye), 9)
    6.0
    """
    values, vectors = torch.linalg.eigh(covariance.double())
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    product = torch.linalg.eigvalsh(root @ other_covariance.double() @ root).clamp_min(0)
    apart = (mean.double() - other_mean.double()).square().sum()
    return float(apart + covariance.trace() + other_covariance.trace() - 2 * product.sqrt().sum())


def frechet_of(x: Tensor, y: Tensor) -> float:
    """The distance of the normal laws with the moments of two sets of features, (N, d) and (M, d)."""
    x, y = x.double(), y.double()
    (first, covariance), (second, other) = ((each.mean(0), each.T.cov()) for each in (x, y))
    return frechet(first, torch.atleast_2d(covariance), second, torch.atleast_2d(other))


def kernel_distance(x: Tensor, y: Tensor, num_subsets: int = 100, size: int = 1000) -> tuple[float, float]:
    """The squared maximum mean discrepancy under the cubic kernel: mean and spread over random subsets.

    Where both sets are no larger than a subset there is one, and no spread: NaN.
    """
    num_subsets = 1 if max(len(x), len(y)) <= size else num_subsets
    size = min(size, len(x), len(y))
    found = []
    for _ in range(num_subsets):
        first, second = x[torch.randperm(len(x))[:size]], y[torch.randperm(len(y))[:size]]
        within = polynomial(first, first), polynomial(second, second)
        found.append(unbiased(*within, polynomial(first, second)))
    return float(np.mean(found)), float(np.std(found)) if len(found) > 1 else math.nan
