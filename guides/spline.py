"""The neural spline guide: each latent goes through a monotone spline that the earlier ones decide."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae import transforms
from ppl_vae.nets import Encoder


class Spline(nn.Module):
    r"""Standard normal noise through T autoregressive splines, then moved to where the encoder says.

    .. math:: u_0 \sim \mathcal{N}(0, I), \qquad
        u_{t,j} = \mathrm{spline}(u_{t-1,j}; \theta_t(u_{t-1,<j}, c)),
        \qquad z = \mathrm{loc} + \mathrm{scale} \odot u_T

    The splines are rational-quadratic on [-5, 5] and the identity outside. The context c(x) is a linear
    function of the encoder's features; every other transform goes through the latents backwards. The
    splines start as the identity, so that training begins at the mean-field guide. A draw with its density
    is one evaluation of each net; the density elsewhere, as `STL` and `DReG` need it, takes latent_dim.

    Args:
        encoder: its `trunk` maps x to features, its `head` the features to (loc, scale).
        num_transforms: T.
        bins: pieces of a spline.
        hidden: widths of the hidden layers of the nets theta.
        context_dim: width of the context.

    Durkan, Bekasov, Murray and Papamakarios, Neural Spline Flows, arXiv:1906.04032.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_transforms: int = 2,
        bins: int = 8,
        hidden: tuple[int, ...] = (128,),
        context_dim: int = 32,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_transforms = num_transforms
        self.bins = bins
        self.hidden = tuple(hidden)
        self.context_dim = context_dim
        self.context = nn.Linear(encoder.num_features, context_dim)
        self.flow = nn.ModuleList(
            transforms.masked_autoregressive(
                encoder.latent_dim, context_dim, self.hidden, bins=bins, backwards=bool(number % 2)
            )
            for number in range(num_transforms)
        )

    def posterior(self, x: Tensor) -> dist.TransformedDistribution:
        """q(z | x), batch shape (*batch,), event shape (latent_dim,)."""
        features = self.encoder.trunk(x)
        loc, scale = self.encoder.head(features)
        context = self.context(features)
        flow = [transforms.Conditioned(lazy.forward, context) for lazy in self.flow]
        # cached, so that a draw's density finds its way back without an inverse
        flow.append(dist.transforms.AffineTransform(loc, scale, event_dim=1, cache_size=1))
        noise = dist.Normal(torch.zeros_like(loc), torch.ones_like(scale)).to_event(1)
        return dist.TransformedDistribution(noise, flow)

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        posterior = self.posterior(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", posterior)
