"""A Riemannian metric of a latent space: near centres it is wide, and far from them it costs to move."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.nets.shapes import positive_size


class RiemannianMetric(nn.Module):
    r"""The metric of the geometry-aware VAE, by its inverse: bumps around centres on a small constant.

    .. math:: G(z)^{-1} = \lambda I + \sum_c w_c(z) \, L_c L_c^\top, \qquad
        w_c(z) = \exp\bigl(-\|z - m_c\|^2 / T^2\bigr)

    The centres m and the triangles L are learned; in its paper m_c and L_c are nets' outputs at all data,
    here they are numbers of their own, as many as wanted, so that a datum's bound hangs on no other datum.
    Start them where codes are by `initialise`. Everything that a leapfrog needs is in closed form.

    Args:
        latent_dim: d.
        num_centres: C.
        temperature: T, how far a bump reaches.
        regularisation: lambda, the inverse metric far from all centres.

    Raises:
        ValueError: for sizes below 1, and a temperature or a regularisation that is not positive.

    Chadebec, Mantoux and Allassonniere, Geometry-Aware Hamiltonian Variational Auto-Encoder,
    arXiv:2010.11518.

    >>> RiemannianMetric(latent_dim=2, num_centres=5).inverse(torch.zeros(3, 2)).shape
    torch.Size([3, 2, 2])
    """

    def __init__(
        self,
        latent_dim: int,
        num_centres: int = 20,
        temperature: float = 1.5,
        regularisation: float = 0.01,
    ) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.num_centres = positive_size("num_centres", num_centres)
        for name, value in (("temperature", temperature), ("regularisation", regularisation)):
            if not 0 < value < math.inf:
                raise ValueError(f"RiemannianMetric: {name} must be a positive number, got {value!r}")
        self.temperature, self.regularisation = temperature, regularisation
        self.centres = nn.Parameter(torch.randn(num_centres, latent_dim))
        # together about one where a code of a standard normal lies
        triangle = (1 / num_centres) ** 0.5 * torch.eye(latent_dim)
        self.triangles = nn.Parameter(triangle.expand(num_centres, -1, -1).clone())

    @torch.no_grad()
    def initialise(self, codes: Any, seed: int = 0) -> None:
        """Put the centres at codes, (N, latent_dim), of which those are taken that a generator draws.

        Raises:
            ValueError: for fewer codes than centres, or of another size.
        """
        codes = torch.as_tensor(codes)
        if codes.dim() != 2 or codes.shape[1] != self.latent_dim or len(codes) < self.num_centres:
            raise ValueError(
                f"RiemannianMetric: {self.num_centres} centres of latent_dim={self.latent_dim} take as many "
                f"codes or more, (N, {self.latent_dim}), got {tuple(codes.shape)}"
            )
        order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
        self.centres.copy_(codes[order[: self.num_centres].to(codes.device)].to(self.centres))

    def inverse(self, z: Tensor) -> Tensor:
        """G(z)^-1, (*batch, d, d)."""
        identity = torch.eye(self.latent_dim, dtype=z.dtype, device=z.device)
        weight, _ = self._bumps(z)
        return torch.einsum("...c,cij->...ij", weight, self._matrices()) + self.regularisation * identity

    def root(self, z: Tensor) -> Tensor:
        """R, (*batch, d, d), a lower triangle with G(z)^-1 = R R^T: a momentum of N(0, G) is R^-T noise."""
        found: Tensor = torch.linalg.cholesky(self.inverse(z))
        return found

    def half_log_det_slope(self, z: Tensor) -> Tensor:
        """The gradient of log det G(z) / 2 by z, (*batch, d)."""
        inverse = self.inverse(z)
        flat = torch.linalg.inv(inverse)
        _, slope = self._bumps(z)
        each = torch.einsum("...ij,cij->...c", flat, self._matrices())
        return -0.5 * torch.einsum("...c,...ci->...i", each, slope)

    def kinetic_slope(self, z: Tensor, momentum: Tensor) -> Tensor:
        """The gradient of momentum^T G(z)^-1 momentum / 2 by z, (*batch, d)."""
        _, slope = self._bumps(z)
        along = torch.einsum("...i,cij->...cj", momentum, self.triangles.tril())
        return 0.5 * torch.einsum("...c,...ci->...i", along.square().sum(-1), slope)

    def bend(self, z: Tensor, momentum: Tensor) -> Tensor:
        """The derivative of `kinetic_slope` by the momentum, (*batch, d of z, d of the momentum)."""
        _, slope = self._bumps(z)
        moved = torch.einsum("cij,...j->...ci", self._matrices(), momentum)
        return torch.einsum("...ci,...cj->...ij", slope, moved)

    def _bumps(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """w, (*batch, C), and its gradient by z, (*batch, C, d)."""
        away = z.unsqueeze(-2) - self.centres
        weight = (-away.square().sum(-1) / self.temperature**2).exp()
        return weight, -2 / self.temperature**2 * weight.unsqueeze(-1) * away

    def _matrices(self) -> Tensor:
        """L L^T, (C, d, d)."""
        lower = self.triangles.tril()
        return lower @ lower.mT
