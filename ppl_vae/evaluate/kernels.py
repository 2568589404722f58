"""Maximum mean discrepancies: distances of two laws, from kernels between their draws."""

from __future__ import annotations

import torch
from torch import Tensor


def median_distance(x: Tensor, y: Tensor, limit: int = 1000) -> float:
    """The median distance between different draws of both, of the first `limit` of each."""
    both = torch.cat([x[:limit], y[:limit]]).double()
    distances = torch.nn.functional.pdist(both)
    positive = distances[distances > 0]
    return float(positive.median()) if len(positive) else 1.0


def gaussian(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    r"""k(x, y) = exp(-|x - y|^2 / 2 h^2), (N, M)."""
    return (-0.5 * torch.cdist(x.double(), y.double()).square() / bandwidth**2).exp()


def polynomial(x: Tensor, y: Tensor) -> Tensor:
    """k(x, y) = (x . y / d + 1)^3, (N, M): that of the kernel Inception distance."""
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def unbiased(within_x: Tensor, within_y: Tensor, between: Tensor) -> float:
    """The squared discrepancy from kernels of n draws of each, which may be below zero.

    Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012, lemma 6.
    """
    n = len(between)
    off_diagonal = within_x.sum() - within_x.trace() + within_y.sum() - within_y.trace()
    return float(off_diagonal / (n * (n - 1)) - 2 * between.mean())


def paired_terms(within_x: Tensor, within_y: Tensor, between: Tensor) -> Tensor:
    r"""The terms of an unbiased squared discrepancy without k(x_i, y_i): (n, n), zero on the diagonal.

    .. math:: h_{ij} = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i), \qquad
        \widehat{\mathrm{MMD}}^2 = \frac{1}{n (n - 1)} \sum_{i \ne j} h_{ij}

    Swapping x_i and y_i turns the signs of row and column i, so that permutations within pairs cost a product
    with signs: `s^T h s`.

    Gretton et al., JMLR 13, 2012, after lemma 6.
    """
    terms = within_x + within_y - between - between.T
    return terms.fill_diagonal_(0)


def squared_discrepancy(terms: Tensor) -> float:
    """The unbiased estimate from `paired_terms`; it may be below zero."""
    n = len(terms)
    return float(terms.sum()) / (n * (n - 1))
