"""How two sets of features lie among each other, by nearest neighbours."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_ROWS = 1000  # of distances, at a time


class Neighbours(NamedTuple):
    """Precision, recall, density and coverage."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbours(x: Tensor, y: Tensor, k: int) -> Neighbours:
    r"""How data x, (N, d), and samples y, (M, d), lie in each other's balls to the k-th neighbour.

    .. math:: \mathrm{precision} = \frac1M \sum_j \max_i [y_j \in B_i], \quad
        \mathrm{density} = \frac{1}{kM} \sum_{ij} [y_j \in B_i], \quad
        \mathrm{coverage} = \frac1N \sum_i \max_j [y_j \in B_i]

    with B_i the ball around x_i that holds its k nearest data, and recall the precision of x in the balls
    around y. If both have one law, density is 1 and coverage 1 - prod_{j<k} (N - 1 - j) / (N + M - 1 - j) in
    the mean; duplicates among the data, whose balls are empty, lower them.
    """
    radius, other_radius = _radius(x, k), _radius(y, k)
    inside, covered = torch.zeros(len(y)), torch.zeros(len(x), dtype=torch.bool)
    recalled = torch.zeros(len(x), dtype=torch.bool)
    for start in range(0, len(x), _ROWS):
        part = slice(start, start + _ROWS)
        distance = _distances(x[part], y)
        in_ball = distance < radius[part, None]
        inside += in_ball.sum(0)
        covered[part] = in_ball.any(1)
        recalled[part] = (distance < other_radius).any(1)
    return Neighbours(
        precision=float((inside > 0).double().mean()),
        recall=float(recalled.double().mean()),
        density=float(inside.double().mean()) / k,
        coverage=float(covered.double().mean()),
    )


def _radius(x: Tensor, k: int) -> Tensor:
    """(N,): the distance of each to its k-th nearest other."""
    parts = [
        _distances(x[start : start + _ROWS], x).kthvalue(k + 1, dim=1).values
        for start in range(0, len(x), _ROWS)
    ]
    return torch.cat(parts)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # by differences: from products the distance of a datum to itself would be rounding
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
