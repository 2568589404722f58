"""The variational autoencoder: a latent vector, decoded to the parameters of a likelihood."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn


class VAE(nn.Module):
    r"""The variational autoencoder's generative model.

    .. math:: z \sim p(z), \qquad x \mid z \sim \mathrm{likelihood}(\mathrm{decoder}(z))

    Args:
        likelihood: turns the decoder's raw output into a Pyro distribution over x.
        decoder: maps z, (*batch, latent_dim), to the raw output; any leading dims.
        latent_dim: the number of latent dimensions.
        prior: gives p(z), one of `ppl_vae.priors` or the like; N(0, I) by default.

    Raises:
        ValueError: when prior or decoder have another latent_dim; in `forward`, when the decoder's
            output does not fit the likelihood.

    Kingma and Welling, Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """

    def __init__(
        self, likelihood: nn.Module, decoder: nn.Module, latent_dim: int, prior: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.decoder = decoder
        self.latent_dim = latent_dim
        self.prior = prior
        for name, part in (("decoder", decoder), ("prior", prior)):
            if (size := getattr(part, "latent_dim", latent_dim)) != latent_dim:
                raise ValueError(f"latent_dim is {latent_dim} but the {name} was built for {size}")

    def forward(self, x: Tensor) -> Any:
        """Draw z and x for each of the len(x) data."""
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", self._prior(x))
            raw = self.decoder(z)
            _check_event_dim(self.likelihood, raw.dim() - z.dim() + 1)
            return pyro.sample("x", self.likelihood(raw), obs=x)

    def _prior(self, x: Tensor) -> dist.Distribution:
        if self.prior is None:
            return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)
        prior: dist.Distribution = self.prior()
        return prior


def _check_event_dim(likelihood: nn.Module, event_dim: int) -> None:
    expected = getattr(likelihood, "event_dim", event_dim)
    if expected != event_dim:
        name = type(likelihood).__name__
        raise ValueError(
            f"{name} has event_dim={expected}, but the decoder's output for one datum has {event_dim} dims: "
            f"write likelihoods.{name}(..., event_dim={event_dim})"
        )
