"""From one latent of a chain to the next: a gated transition, and one that is told of the data too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_vae.nets.mlp import MLP
from ppl_vae.nets.scale import LocScale, positive_scale
from ppl_vae.nets.shapes import positive_size


class GatedTransition(nn.Module):
    r"""The location and the scale of the next latent, between a linear map and a net's proposal.

    .. math:: \mu = (1 - g) \odot (W z + b) + g \odot h, \qquad g = \sigma(\mathrm{MLP}_g(z)), \quad
        h = \mathrm{MLP}_h(z), \qquad \sigma = \mathrm{positive\_scale}(V\,\mathrm{relu}(h) + c)

    W starts at the identity. Shapes: `(*batch, latent_dim)` to a pair of the same, for any leading dims.

    Args:
        latent_dim: d.
        hidden: width of the two nets.
        min_scale, max_scale: see `positive_scale`.

    Krishnan, Shalit and Sontag, arXiv:1609.09869, section 5.

    >>> loc, scale = GatedTransition(latent_dim=3)(torch.zeros(5, 3))
    >>> loc.shape, scale.shape
    (torch.Size([5, 3]), torch.Size([5, 3]))
    """

    def __init__(
        self, latent_dim: int, hidden: int = 200, min_scale: float = 1e-4, max_scale: float = 1e2
    ) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.hidden, self.min_scale, self.max_scale = hidden, min_scale, max_scale
        self.gate = MLP(latent_dim, (hidden,), latent_dim, "relu")
        self.proposal = MLP(latent_dim, (hidden,), latent_dim, "relu")
        self.linear = nn.Linear(latent_dim, latent_dim)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.spread = nn.Linear(latent_dim, latent_dim)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of z_t, (*batch, latent_dim) each, at z_{t-1}."""
        gate, proposal = torch.sigmoid(self.gate(z)), self.proposal(z)
        loc = (1 - gate) * self.linear(z) + gate * proposal
        return loc, positive_scale(self.spread(torch.relu(proposal)), self.min_scale, self.max_scale)


class Combiner(nn.Module):
    r"""The location and the scale of a latent given the one before it and what a net has read of the data.

    .. math:: h = \tfrac12 \bigl(\tanh(W z_{t-1} + b) + \tanh(V c_t + a)\bigr), \qquad
        \mu, \sigma = \mathrm{head}(h)

    Shapes: z `(*batch, latent_dim)` and c `(*batch, context_dim)` to a pair of `(*batch, latent_dim)`.

    Args:
        latent_dim: d.
        context_dim: width of c, `num_features` of a `Recurrent` net.
        hidden: width of h.
        min_scale, max_scale: see `positive_scale`.

    Krishnan, Shalit and Sontag, arXiv:1609.09869, section 4.
    """

    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        hidden: int = 100,
        min_scale: float = 1e-4,
        max_scale: float = 1e2,
    ) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.context_dim = positive_size("context_dim", context_dim)
        self.hidden, self.min_scale, self.max_scale = hidden, min_scale, max_scale
        self.of_latent = nn.Linear(latent_dim, hidden)
        self.of_context = nn.Linear(context_dim, hidden)
        self.head = LocScale(hidden, latent_dim, min_scale, max_scale)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of z_t, (*batch, latent_dim) each."""
        seen = torch.tanh(self.of_context(context))
        loc, scale = self.head((torch.tanh(self.of_latent(z)) + seen) / 2)
        return loc, scale
