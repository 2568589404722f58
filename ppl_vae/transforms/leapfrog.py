"""The leapfrog of a curved space, whose equations are solved for, and the determinant of what was done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class Metric(Protocol):
    """A Riemannian metric G as a leapfrog needs it, for any leading dims: `nets.RiemannianMetric`."""

    def inverse(self, z: Tensor, /) -> Tensor: ...
    def half_log_det_slope(self, z: Tensor, /) -> Tensor: ...
    def kinetic_slope(self, z: Tensor, momentum: Tensor, /) -> Tensor: ...
    def bend(self, z: Tensor, momentum: Tensor, /) -> Tensor: ...


def curved_leapfrog(
    metric: Metric,
    z: Tensor,
    momentum: Tensor,
    force: Tensor,
    force_at: Callable[[Tensor], Tensor],
    step: Tensor,
    num_iterations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""One generalised leapfrog step of :math:`H(z, r) = U(z) + \tfrac12 \log \det G(z)
    + \tfrac12 r^\top G(z)^{-1} r`.

    .. math:: r' = r - \tfrac\epsilon2 \nabla_z H(z, r'), \qquad z' = z + \tfrac\epsilon2 \bigl(
        \nabla_r H(z, r') + \nabla_r H(z', r')\bigr), \qquad r'' = r' - \tfrac\epsilon2 \nabla_z H(z', r')

    The first two are solved by as many fixed-point iterations. With enough of them the step keeps the volume
    and can be undone; with any number of them the determinant is that of what has been done, so that a
    weight made with it is exact, as long as no two places go to one. Where a momentum is so large for the
    step that they might (the derivative of an equation's solution is as far from the identity as one, by
    its rows) the logarithm is minus infinity: a weight of zero, with which a bound stays below.

    Args:
        metric: G.
        z, momentum: (*batch, d).
        force: minus the gradient of U at z.
        force_at: the same at a new z.
        step: epsilon, (d,) or a number.
        num_iterations: of each of the two equations.

    Returns:
        z', r'', the logarithm of the determinant, (*batch,), and the force at z'.

    Girolami and Calderhead, Riemann manifold Langevin and Hamiltonian Monte Carlo methods, 2011.
    """
    half = step / 2
    identity = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    rows = half.unsqueeze(-1) if half.dim() else half  # times the rows of a matrix
    slope = metric.half_log_det_slope(z) - force
    solved, first = momentum, identity
    for _ in range(num_iterations):
        first = identity - rows * metric.bend(z, solved) @ first
        solved = momentum - half * (slope + metric.kinetic_slope(z, solved))
    here, velocity = metric.bend(z, solved).mT, _applied(metric.inverse(z), solved)
    place, second = z, identity
    for _ in range(num_iterations):
        second = identity + rows * (here + metric.bend(place, solved).mT @ second)
        place = z + half * (velocity + _applied(metric.inverse(place), solved))
    force = force_at(place)
    slope = metric.half_log_det_slope(place) - force
    last = identity - rows * metric.bend(place, solved)
    ending = solved - half * (slope + metric.kinetic_slope(place, solved))
    log_det = z.new_zeros(())
    for part in (first, second, last):
        log_det = log_det + _log_det_near_identity(part, identity)
    return place, ending, log_det, force


def _log_det_near_identity(matrix: Tensor, identity: Tensor) -> Tensor:
    """(*batch,): the logarithm of the determinant; minus infinity of what is not near the identity."""
    near = (matrix - identity).abs().sum(-1).amax(-1) < 1
    safe = torch.where(near[..., None, None], matrix, identity)
    return torch.logdet(safe).masked_fill(~near, -torch.inf)


def _applied(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
