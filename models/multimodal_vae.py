"""The VAE of several views of one thing, each of its own likelihood, some of which may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.core.elements import masked
from ppl_vae.nets.contracts import require_latent_dim

if TYPE_CHECKING:  # the priors import more than a model needs
    from ppl_vae.priors import Prior


class MultimodalVAE(nn.Module):
    r"""Several views of each datum, such as an image and its caption, independent given one latent.

    .. math:: z \sim p(z), \qquad x_m \mid z \sim \mathrm{likelihood}_m(\mathrm{decoder}_m(z)),
        \quad m = 1, \dots, M

    A NaN is a value that nobody knows, one entry or a whole view; it is left out, and what is left is the
    exact density of the rest. So some data may lack a view in training, and `pv.impute` draws what a datum
    lacks from the views that it has: under `guides.ProductOfExperts` and its like, which leave an expert
    without its view out too. That the experts learn to stand alone, let the training data hold each datum
    with views taken away beside the whole one, which is the objective of the MVAE.

    Args:
        names: of the views: the sites, and the arguments that the data's arrays go to, `data.from_tensors(
            image=..., caption=..., missing=True)`.
        likelihoods: a `likelihoods.Likelihood` for each view, whose elements are independent.
        decoders: a `nets.Decoder` for each view.
        latent_dim: the number of latent dimensions.
        prior: a `priors.Prior`; N(0, I) by default.

    Raises:
        ValueError: for names that are not as many as likelihoods and decoders, or are no names of
            arguments, and for parts with another latent_dim.
        PairError: in `forward`, for a likelihood whose elements are not independent, by the view's name.

    Wu and Goodman, Multimodal Generative Models for Scalable Weakly-Supervised Learning, arXiv:1802.05335.

    >>> import torch
    >>> import ppl_vae as pv
    >>> from ppl_vae import guides, likelihoods, nets
    >>> views = (likelihoods.Bernoulli(event_dim=1), likelihoods.Gaussian(event_dim=1))
    >>> decoders = nets.MLPDecoder(2, (6,)), nets.MLPDecoder(2, (4,))
    >>> encoders = nets.MLPEncoder((6,), 2), nets.MLPEncoder((4,), 2)
    >>> model = MultimodalVAE(("left", "right"), views, decoders, latent_dim=2)
    >>> pair = pv.Pair(model, guides.ProductOfExperts(encoders))
    >>> left, right = torch.rand(5, 6).round(), torch.full((5, 4), torch.nan)
    >>> pv.impute(pair, left, right, method="guide", num_samples=3, progress=False).draws["right"].shape
    torch.Size([3, 5, 4])
    """

    takes_missing = True

    def __init__(
        self,
        names: tuple[str, ...],
        likelihoods: Sequence[nn.Module],
        decoders: Sequence[nn.Module],
        latent_dim: int,
        prior: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        self.likelihoods = nn.ModuleList(likelihoods)
        self.decoders = nn.ModuleList(decoders)
        self.latent_dim = latent_dim
        self.prior: Prior | None = prior
        if not len(self.names) == len(self.likelihoods) == len(self.decoders) > 0:
            raise ValueError(
                f"MultimodalVAE: {len(self.names)} names take as many likelihoods and decoders, got "
                f"{len(self.likelihoods)} and {len(self.decoders)}"
            )
        if len(set(self.names)) < len(self.names) or not all(name.isidentifier() for name in self.names):
            raise ValueError(
                f"MultimodalVAE: the names of the views differ and are those of arguments, got {self.names}"
            )
        parts = zip(self.names, self.decoders)
        for name, part in (*((f"decoder of {n!r}", d) for n, d in parts), ("prior", prior)):
            require_latent_dim(name, part, latent_dim)

    @property
    def argument_names(self) -> tuple[str, ...]:
        """What `forward` takes: the views."""
        return self.names

    def forward(self, *views: Tensor) -> Any:
        """Draw z and each view for each of the data."""
        with pyro.plate("data", len(views[0]), dim=-1):
            z = pyro.sample("z", self._prior(views[0]))
            drawn = []
            for name, likelihood, decoder, x in zip(
                self.names, self.likelihoods, self.decoders, views, strict=True
            ):
                fn = masked(likelihood(decoder(z)), ~x.isnan(), name)
                drawn.append(pyro.sample(name, fn, obs=x))
            return tuple(drawn)

    def _prior(self, like: Tensor) -> dist.Distribution:
        if self.prior is None:
            parameter = next(self.decoders.parameters(), like)
            return dist.Normal(parameter.new_zeros(self.latent_dim), 1.0).to_event(1)
        return self.prior()
