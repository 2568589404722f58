"""The inverse autoregressive guide: each latent is rescaled and shifted by what the earlier ones say."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae import transforms
from ppl_vae.nets import Encoder


class IAF(nn.Module):
    r"""A mean-field posterior through T inverse autoregressive transforms, which see x through a context.

    .. math:: z_0 \sim \mathcal{N}(\mathrm{loc}, \mathrm{diag}\,\mathrm{scale}^2), \qquad
        z_{t,j} = \exp(s_t(z_{t-1,<j}, c)) z_{t-1,j} + m_t(z_{t-1,<j}, c), \qquad z = z_T

    The context c(x) is a linear function of the encoder's features; every other transform goes through
    the latents backwards. s and m start at zero, so that training begins at the mean-field guide. A draw
    with its density is one evaluation of each net; the density elsewhere, as `STL` and `DReG` need it,
    takes latent_dim of them.

    Args:
        encoder: its `trunk` maps x to features, its `head` the features to (loc, scale).
        num_transforms: T.
        hidden: widths of the hidden layers of the nets s and m.
        context_dim: width of the context.

    Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, Improving Variational Inference with
    Inverse Autoregressive Flow, arXiv:1606.04934.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_transforms: int = 4,
        hidden: tuple[int, ...] = (128,),
        context_dim: int = 32,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_transforms = num_transforms
        self.hidden = tuple(hidden)
        self.context_dim = context_dim
        self.context = nn.Linear(encoder.num_features, context_dim)
        self.flow = nn.ModuleList(
            transforms.masked_autoregressive(
                encoder.latent_dim, context_dim, self.hidden, backwards=bool(number % 2)
            )
            for number in range(num_transforms)
        )

    def posterior(self, x: Tensor) -> dist.TransformedDistribution:
        """q(z | x), batch shape (*batch,), event shape (latent_dim,)."""
        features = self.encoder.trunk(x)
        loc, scale = self.encoder.head(features)
        context = self.context(features)
        flow = [transforms.Conditioned(lazy.forward, context) for lazy in self.flow]
        return dist.TransformedDistribution(dist.Normal(loc, scale).to_event(1), flow)

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        posterior = self.posterior(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", posterior)
