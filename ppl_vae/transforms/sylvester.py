"""The Sylvester transform, with parameters by datum and an inverse, and its orthogonal matrices."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Transform, constraints
from torch.nn.functional import normalize

from ppl_vae.transforms.bend import unbend


class Sylvester(Transform):
    r"""A planar transform with a layer of M units instead of one.

    .. math:: y = x + Q R \tanh(S Q^\top x + b), \qquad
        \log |\det| = \sum_m \log\bigl(1 + R_{mm} S_{mm} (1 - \tanh^2_m)\bigr)

    Q has orthonormal columns, R and S are upper triangular, and R_mm S_mm > -1 makes it a bijection.
    R = 0 gives the identity. The inverse goes up the triangle by bisection, M times; a draw does not
    need it.

    Shapes: x and y `(..., *batch, d)`, log-determinant `(..., *batch)`.

    Args:
        basis: Q, `(*batch, d, M)`.
        outer: R, `(*batch, M, M)`.
        inner: S, `(*batch, M, M)`.
        bias: b, `(*batch, M)`.

    Van den Berg, Hasenclever, Tomczak and Welling, Sylvester Normalizing Flows, arXiv:1803.05649.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, basis: Tensor, outer: Tensor, inner: Tensor, bias: Tensor) -> None:
        super().__init__(cache_size=0)
        self.basis = basis
        self.outer = outer
        self.inner = inner
        self.bias = bias

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y, and the log-determinant that goes with it."""
        # einsum, since a broadcast product would copy the matrices for each particle
        within = torch.einsum("...d,...dm->...m", x, self.basis)
        bend = torch.tanh(torch.einsum("...n,...mn->...m", within, self.inner) + self.bias)
        product = self.outer.diagonal(dim1=-2, dim2=-1) * self.inner.diagonal(dim1=-2, dim2=-1)
        return x + self._out(bend), torch.log1p(product * (1 - bend.square())).sum(-1)

    def _out(self, bend: Tensor) -> Tensor:
        return torch.einsum(
            "...m,...dm->...d", torch.einsum("...n,...mn->...m", bend, self.outer), self.basis
        )

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """(..., *batch): log |det dy/dx|."""
        return self.call_and_ladj(x)[1]

    def _inverse(self, y: Tensor) -> Tensor:
        target = torch.einsum("...d,...dm->...m", y, self.basis)
        size = target.shape[-1]
        within: list[Tensor] = []
        bends: list[Tensor] = []
        for row in reversed(range(size)):
            offset, value = self.bias[..., row], target[..., row]
            for column, x, bend in zip(range(size - 1, row, -1), within, bends):
                offset = offset + self.inner[..., row, column] * x
                value = value - self.outer[..., row, column] * bend
            slope = self.inner[..., row, row]
            within.append(unbend(value, self.outer[..., row, row], slope, offset))
            bends.append(torch.tanh(slope * within[-1] + offset))
        return y - self._out(torch.stack(bends[::-1], -1))


def orthonormal(matrix: Tensor) -> Tensor:
    """Orthonormal columns of the same span, by a QR decomposition: (..., d, M) to (..., d, M), M <= d.

    Exact in one step, where the paper iterates to a tolerance.
    """
    basis, triangle = torch.linalg.qr(matrix)
    # the decomposition with a positive diagonal is the continuous one
    sign = triangle.diagonal(dim1=-2, dim2=-1).detach().sign().unsqueeze(-2)
    return basis * torch.where(sign == 0, 1, sign)


def householder(vectors: Tensor) -> Tensor:
    """The product of the reflections along H vectors: (..., H, d) to orthogonal (..., d, d)."""
    unit = normalize(vectors, dim=-1)
    identity = torch.eye(vectors.shape[-1], dtype=vectors.dtype, device=vectors.device)
    product = identity.expand(*vectors.shape[:-2], -1, -1)
    for along in unit.unbind(-2):
        product = product - 2 * (product @ along.unsqueeze(-1)) * along.unsqueeze(-2)
    return product
