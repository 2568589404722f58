"""The deterministic autoencoder, a baseline: a decoder, and no prior over its codes."""

from __future__ import annotations

from typing import Any

import pyro
from torch import Tensor, nn

from ppl_vae.distributions.improper import Flat
from ppl_vae.nets.contracts import Decoder, require_latent_dim


class Autoencoder(nn.Module):
    r"""Codes without a prior, decoded to the parameters of a likelihood; for `guides.Deterministic`.

    .. math:: p(z) \propto 1, \qquad x \mid z \sim \mathrm{likelihood}(\mathrm{decoder}(z))

    With that guide, z = f(x), the "bound" that `fit` follows and logs is the reconstruction alone,

    .. math:: \log p\bigl(x \mid z = f(x)\bigr) \quad
        \text{(with a Gaussian of fixed scale: the squared error),}

    and the KL is 0 throughout. It bounds nothing: there is no p(x). So encode, reconstruct, decode,
    interpolate, traverse, the active units and every picture of codes mean what they mean elsewhere, and
    whatever needs p(z) or a density of q has no meaning: `pv.sample` and `evaluate.holes` raise errors.
    Particles are all alike, so `estimators.ELBO()` is the one to use.

    Args:
        likelihood: a `likelihoods.Likelihood`, from the decoder's raw output to a distribution over x.
        decoder: a `nets.Decoder`: maps z, (*batch, latent_dim), to the raw output; any leading dims.
        latent_dim: the number of latent dimensions.

    Raises:
        ValueError: when the decoder has another latent_dim.

    Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, 2006.
    """

    def __init__(self, likelihood: nn.Module, decoder: nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.decoder: Decoder = decoder
        self.latent_dim = latent_dim
        require_latent_dim("decoder", decoder, latent_dim)

    def forward(self, x: Tensor) -> Any:
        """Take z and draw x for each of the len(x) data."""
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", Flat(x.new_zeros(self.latent_dim)))
            return pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)
