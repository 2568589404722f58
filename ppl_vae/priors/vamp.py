"""The VampPrior: the guide's own posteriors at learned pseudo-inputs."""

from __future__ import annotations

from typing import Any, cast

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.core.isolation import random_numbers
from ppl_vae.data import as_split
from ppl_vae.nets.contracts import ShapedEncoder
from ppl_vae.nets.shapes import positive_size
from ppl_vae.priors.normal_mixture import NormalMixture

_EDGE = 0.01  # a pseudo-input that starts at exactly 0 or 1 could never leave
_NOISE = 0.01


class VampPrior(nn.Module):
    r"""A mixture of the variational posterior at C pseudo-inputs u, which are learned.

    .. math:: p(z) = \frac1C \sum_c q(z \mid u_c), \qquad
        q(z \mid u) = \mathcal{N}\bigl(\mathrm{loc}(u), \mathrm{diag}\,\mathrm{scale}(u)^2\bigr)

    The encoder is the guide's own module, given to both: it learns from both, a run's folder keeps
    it once, and loading shares it again. Under `guides.MeanField` the components are the guide's
    posteriors exactly; under a guide with more than a location and a scale, their diagonal part.
    Each run of the model encodes C data more. The batch norm of an encoder averages over them too.

    Args:
        encoder: a `nets.ShapedEncoder`: maps x to (loc, scale), and has `latent_dim` and the data's event
            shape as `shape`.
        num_components: C; the paper's is 500.
        bounded: keep the pseudo-inputs in (0, 1) like images, by a sigmoid; False for data on the real line.

    Raises:
        ValueError: for an encoder without `latent_dim` or `shape`.

    Tomczak and Welling, VAE with a VampPrior, arXiv:1705.07120.

    >>> from ppl_vae import Pair, guides, likelihoods, models, nets
    >>> encoder = nets.MLPEncoder((1, 8, 8), latent_dim=2)
    >>> decoder = nets.MLPDecoder(latent_dim=2, shape=(1, 8, 8))
    >>> prior = VampPrior(encoder, num_components=50)
    >>> model = models.VAE(likelihoods.Bernoulli(), decoder, latent_dim=2, prior=prior)
    >>> pair = Pair(model, guides.MeanField(encoder))
    """

    def __init__(self, encoder: nn.Module, num_components: int = 500, bounded: bool = True) -> None:
        super().__init__()
        self.encoder = cast(ShapedEncoder, encoder)
        try:
            shape, _ = self.encoder.shape, self.encoder.latent_dim
        except AttributeError as error:
            raise ValueError(
                f"VampPrior: the encoder does not say what it was built for, {error}: set "
                f"encoder.latent_dim, and encoder.shape to the event shape of the data"
            ) from error
        self.num_components = positive_size("num_components", num_components)
        self.bounded = bounded
        self.raw = nn.Parameter(torch.randn(num_components, *shape))

    @property
    def latent_dim(self) -> int:
        """The encoder's."""
        return self.encoder.latent_dim

    def pseudo_inputs(self) -> Tensor:
        """u: (C, *shape)."""
        return self.raw.sigmoid() if self.bounded else self.raw

    @torch.no_grad()
    def initialise(self, data: Any, seed: int = 0) -> None:
        """Start the pseudo-inputs at data drawn at random, with a little noise so that no two are equal.

        Args:
            data: a `data.Split`, or a Tensor (N, *shape).
            seed: of the draws; the caller's random numbers stay as they were.

        Raises:
            ValueError: for data of another shape, or outside [0, 1] while `bounded`.
        """
        split = as_split(data)
        shape = tuple(self.raw.shape[1:])
        if tuple(split.shape) != shape:
            raise ValueError(f"VampPrior: the encoder takes data of shape {shape}, got {tuple(split.shape)}")
        with random_numbers(seed, split.device):
            few = len(split) < self.num_components
            chosen = torch.randperm(len(split))
            if few:
                chosen = torch.randint(len(split), (self.num_components,))
            x = split.batch(chosen[: self.num_components])[0].to(self.raw)
            if bool(x.isnan().any()):
                raise ValueError(
                    "VampPrior: the data have missing values (NaN), and pseudo-inputs are numbers to train: "
                    "initialise it at complete rows, or take priors.MixtureOfGaussians, which needs no data"
                )
            low, high = x.aminmax()
            if self.bounded and (low < 0 or high > 1):
                raise ValueError(
                    f"VampPrior: the pseudo-inputs are kept in [0, 1], but the data go from {float(low):g} "
                    f"to {float(high):g}: give bounded=False"
                )
            raw = x.clamp(_EDGE, 1 - _EDGE).logit() if self.bounded else x
            self.raw.copy_(raw + _NOISE * torch.randn(raw.shape).to(raw))

    def forward(self) -> dist.Distribution:
        """p(z): batch shape (), event shape (latent_dim,)."""
        loc, scale = self.encoder(self.pseudo_inputs())
        return NormalMixture(loc.to(self.raw.dtype), scale.to(self.raw.dtype))
