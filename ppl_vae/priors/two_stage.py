"""The two-stage prior: a latent variable model of the codes."""

from __future__ import annotations

from typing import cast

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets.contracts import HasLatentDim, LocScaleEncoder


class TwoStage(nn.Module):
    r"""Codes that a second, smaller VAE draws: its latent u stands above z, in the model and in the guide.

    .. math:: u \sim \mathcal{N}(0, I), \quad z \mid u \sim
        \mathcal{N}\bigl(m(u), \mathrm{diag}\,s(u)^2\bigr), \quad
        q(u \mid z) = \mathcal{N}\bigl(m'(z), \mathrm{diag}\,s'(z)^2\bigr)

    Its density is an integral, so that the site `u` is a latent of the pair like any other: the guide is
    `guides.TwoStage` with the same prior, and the bound is one on the same log p(x). `pv.refit_prior` makes
    both of a trained pair.

    Args:
        decoder: a `nets.LocScaleEncoder`: maps u to (m, s) of z, for any leading dims.
        encoder: a `nets.LocScaleEncoder`: maps z to (m', s') of u; has `latent_dim`.
        name: of the site u.

    Dai and Wipf, Diagnosing and Enhancing VAE Models, arXiv:1903.05789.

    >>> from ppl_vae import nets
    >>> prior = TwoStage(nets.MLPEncoder((2,), latent_dim=8), nets.MLPEncoder((8,), latent_dim=2))
    """

    def __init__(self, decoder: nn.Module, encoder: nn.Module, name: str = "u") -> None:
        super().__init__()
        self.decoder: LocScaleEncoder = decoder
        self.encoder: LocScaleEncoder = encoder
        self.name = name

    @property
    def latent_dim(self) -> int:
        """That of z, as the decoder has it."""
        return cast(HasLatentDim, self.decoder).latent_dim

    def forward(self) -> dist.Distribution:
        """p(z | u) at a draw of u: event shape (latent_dim,), and the batch shape of the plates around it."""
        like = next(self.parameters())
        zeros = like.new_zeros(cast(HasLatentDim, self.encoder).latent_dim)
        loc, scale = self.decoder(pyro.sample(self.name, dist.Normal(zeros, 1.0).to_event(1)))
        return dist.Normal(loc, scale).to_event(1)

    def guide(self, z: Tensor) -> Tensor:
        """Draw u for codes z, within their plates."""
        loc, scale = self.encoder(z)
        return pyro.sample(self.name, dist.Normal(loc, scale).to_event(1))
