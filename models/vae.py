"""The variational autoencoder: a latent vector, decoded to the parameters of a likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.likelihoods.contract import event_dim_of
from ppl_vae.nets.contracts import Decoder, require_latent_dim

if TYPE_CHECKING:  # the priors import more than a model needs
    from ppl_vae.priors import Prior


class VAE(nn.Module):
    r"""The variational autoencoder's generative model.

    .. math:: z \sim p(z), \qquad x \mid z \sim \mathrm{likelihood}(\mathrm{decoder}(z))

    Args:
        likelihood: a `likelihoods.Likelihood`, from the decoder's raw output to a distribution over x.
        decoder: a `nets.Decoder`: maps z, (*batch, latent_dim), to the raw output; any leading dims.
        latent_dim: the number of latent dimensions.
        prior: a `priors.Prior`: gives p(z), one of `ppl_vae.priors` or the like; N(0, I) by default. One over
            one-hot codes has num_codes * num_values = latent_dim, and the decoder gets them side by side.

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
        self.decoder: Decoder = decoder
        self.latent_dim = latent_dim
        self.prior: Prior | None = prior
        for name, part in (("decoder", decoder), ("prior", prior)):
            require_latent_dim(name, part, latent_dim)

    def forward(self, x: Tensor) -> Any:
        """Draw z and x for each of the len(x) data."""
        with pyro.plate("data", len(x), dim=-1):
            prior = self._prior(x)
            z = pyro.sample("z", prior)
            code = z.flatten(-prior.event_dim)  # one-hot codes stand side by side
            raw = self.decoder(code)
            _check_event_dim(self.likelihood, raw.dim() - code.dim() + 1)
            return pyro.sample("x", self.likelihood(raw), obs=x)

    def _prior(self, x: Tensor) -> dist.Distribution:
        if self.prior is None:
            return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)
        return self.prior()


def _check_event_dim(likelihood: object, event_dim: int) -> None:
    expected = event_dim_of(likelihood)
    if expected not in (None, event_dim):
        name = type(likelihood).__name__
        raise ValueError(
            f"{name} has event_dim={expected}, but the decoder's output for one datum has {event_dim} dims: "
            f"write likelihoods.{name}(..., event_dim={event_dim})"
        )
