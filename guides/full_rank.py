"""The full-rank guide: a multivariate normal with a Cholesky factor of its own for each datum."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.nets import Encoder


class FullRank(nn.Module):
    r"""A normal posterior with full covariance.

    .. math:: q(z \mid x) = \mathcal{N}\bigl(\mathrm{loc}(x), L(x) L(x)^\top\bigr), \qquad
        L = \mathrm{diag}(\mathrm{scale}) (I + N)

    N, strictly lower triangular, is a linear function of the encoder's features that starts at zero, so
    that training begins at the mean-field guide. A row of L shrinks as a whole with its scale, which
    keeps L well conditioned where nothing holds the scale up (a KL weight of 0).

    Args:
        encoder: its `trunk` maps x to features, its `head` the features to (loc, scale).
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        latent_dim = encoder.latent_dim
        rows, columns = torch.tril_indices(latent_dim, latent_dim, offset=-1)
        self.register_buffer("position", rows * latent_dim + columns, persistent=False)
        # not nn.Linear, whose initialisation warns when latent_dim is 1 and nothing is below the diagonal
        self.lower_weight = nn.Parameter(torch.zeros(len(rows), encoder.num_features))
        self.lower_bias = nn.Parameter(torch.zeros(len(rows)))

    def posterior(self, x: Tensor) -> dist.MultivariateNormal:
        """q(z | x), batch shape (*batch,), event shape (latent_dim,)."""
        features = self.encoder.trunk(x)
        loc, scale = self.encoder.head(features)
        below = nn.functional.linear(features, self.lower_weight, self.lower_bias)
        latent_dim = loc.shape[-1]
        flat = loc.new_zeros(*loc.shape[:-1], latent_dim * latent_dim)
        flat = flat.index_copy(-1, self.position, below.to(loc.dtype))
        below_diagonal = flat.unflatten(-1, (latent_dim, latent_dim)) * scale.unsqueeze(-1)
        return dist.MultivariateNormal(loc, scale_tril=below_diagonal + scale.diag_embed())

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        posterior = self.posterior(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", posterior)
