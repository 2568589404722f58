"""The Sylvester guides: a normal posterior bent along several directions at a time."""

from __future__ import annotations

from abc import abstractmethod

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae import transforms
from ppl_vae.nets import Encoder

# the diagonals of R and S stay this far inside (-1, 1), so that the log-determinant is finite
_LIMIT = 0.999


class _Orthogonal(nn.Module):
    """What the variants share: all but how Q is made orthogonal."""

    encoder: Encoder
    heads: nn.ModuleList

    @abstractmethod
    def _make(self, parameters: Tensor) -> transforms.Sylvester:
        """A transform from the parameters of one datum or more, `(*batch, P)`."""

    def posterior(self, x: Tensor) -> dist.TransformedDistribution:
        """q(z | x), batch shape (*batch,), event shape (latent_dim,)."""
        features = self.encoder.trunk(x)
        loc, scale = self.encoder.head(features)
        flow = [transforms.Conditioned(self._make, head(features)) for head in self.heads]
        return dist.TransformedDistribution(dist.Normal(loc, scale).to_event(1), flow)

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        posterior = self.posterior(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", posterior)


class Sylvester(_Orthogonal):
    r"""A mean-field posterior through T Sylvester transforms, whose parameters depend on x.

    .. math:: z_0 \sim \mathcal{N}(\mathrm{loc}, \mathrm{diag}\,\mathrm{scale}^2), \qquad
        z_t = z_{t-1} + Q_t R_t \tanh(S_t Q_t^\top z_{t-1} + b_t), \qquad z = z_T

    Q, with M orthonormal columns, the triangular R and S, and b come from linear functions of the
    encoder's features; R starts at zero, so that training begins at the mean-field guide. The density of
    a draw is exact and costs nothing more. Its density elsewhere, as `STL` and `DReG` need it, takes M
    bisections for each transform.

    Args:
        encoder: its `trunk` maps x to features, its `head` the features to (loc, scale).
        num_transforms: T.
        num_columns: M, from 1 to latent_dim; None takes latent_dim, but 8 at most.

    Raises:
        ValueError: for a number of columns that is not from 1 to latent_dim.

    Van den Berg, Hasenclever, Tomczak and Welling, Sylvester Normalizing Flows, arXiv:1803.05649: the
    orthogonal variant (O-SNF).
    """

    def __init__(self, encoder: Encoder, num_transforms: int = 4, num_columns: int | None = None) -> None:
        super().__init__()
        columns = _columns(encoder, num_columns)
        if not 1 <= columns <= encoder.latent_dim:
            raise ValueError(
                f"num_columns must be from 1 to latent_dim = {encoder.latent_dim}, got {num_columns}: that "
                f"many directions can be orthogonal"
            )
        self.encoder = encoder
        self.num_transforms = num_transforms
        self.num_columns = num_columns
        self.heads = _heads(encoder, num_transforms, columns, columns)

    def _make(self, parameters: Tensor) -> transforms.Sylvester:
        latent_dim = self.encoder.latent_dim
        vectors, *rest = _split(parameters, _columns(self.encoder, self.num_columns), latent_dim)
        return transforms.Sylvester(transforms.orthonormal(vectors.mT), *rest)


class HouseholderSylvester(_Orthogonal):
    r"""As `Sylvester`, with Q a square matrix: the product of H reflections.

    .. math:: Q = \prod_h \Bigl(I - 2 \frac{v_h v_h^\top}{\|v_h\|^2}\Bigr)

    Args:
        encoder: its `trunk` maps x to features, its `head` the features to (loc, scale).
        num_transforms: T.
        num_reflections: H, at least 1.

    Raises:
        ValueError: for a number of reflections below 1.

    Van den Berg, Hasenclever, Tomczak and Welling, Sylvester Normalizing Flows, arXiv:1803.05649: the
    Householder variant (H-SNF).
    """

    def __init__(self, encoder: Encoder, num_transforms: int = 4, num_reflections: int = 4) -> None:
        super().__init__()
        if num_reflections < 1:
            raise ValueError(f"num_reflections must be at least 1, got {num_reflections}")
        self.encoder = encoder
        self.num_transforms = num_transforms
        self.num_reflections = num_reflections
        self.heads = _heads(encoder, num_transforms, encoder.latent_dim, num_reflections)

    def _make(self, parameters: Tensor) -> transforms.Sylvester:
        latent_dim = self.encoder.latent_dim
        vectors, *rest = _split(parameters, latent_dim, latent_dim)
        return transforms.Sylvester(transforms.householder(vectors), *rest)


def _columns(encoder: Encoder, num_columns: int | None) -> int:
    return min(encoder.latent_dim, 8) if num_columns is None else num_columns


def _heads(encoder: Encoder, num_transforms: int, size: int, num_vectors: int) -> nn.ModuleList:
    heads = nn.ModuleList()
    for _ in range(num_transforms):
        # below the diagonal stands S, above it R, which is zero at first
        triangles = torch.tril(torch.randn(size, size) / size, diagonal=-1)
        start = [triangles.flatten(), torch.zeros(size), torch.ones(size), torch.zeros(size)]
        start.append(torch.randn(num_vectors * encoder.latent_dim))
        heads.append(transforms.constant_head(encoder.num_features, torch.cat(start)))
    return heads


def _split(parameters: Tensor, size: int, latent_dim: int) -> tuple[Tensor, ...]:
    """The vectors that Q is made of (*batch, H, latent_dim), R and S (*batch, size, size), b (*batch,
    size).
    """
    square, outer, inner, bias, vectors = parameters.split(
        [size**2, size, size, size, parameters.shape[-1] - size**2 - 3 * size], -1
    )
    square = square.unflatten(-1, (size, size))
    triangles = [
        torch.triu(part, diagonal=1) + torch.diag_embed(_LIMIT * torch.tanh(diagonal))
        for part, diagonal in ((square, outer), (square.mT, inner))
    ]
    return vectors.unflatten(-1, (-1, latent_dim)), *triangles, bias
