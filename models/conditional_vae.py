"""The conditional VAE: data given their labels."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.nets.contracts import Decoder
from ppl_vae.nets.known_labels import require_labels
from ppl_vae.nets.labels import beside, one_hot, require_place_for_labels
from ppl_vae.nets.scale import positive_scale


class ConditionalVAE(nn.Module):
    r"""Data x given a label y that is always there, so that z is left with all that y does not say.

    .. math:: z \mid y \sim \mathcal{N}\bigl(m_y, \mathrm{diag}(s_y)^2\bigr), \qquad
        x \mid z, y \sim \mathrm{likelihood}(\mathrm{decoder}(z, y))

    The label is an input and no site: every bound is one on log p(x | y). The questions take the label
    of choice as `inputs`: `pv.sample(pair, 10, inputs={"y": torch.arange(10)})`.

    Args:
        likelihood: a `likelihoods.Likelihood`, from the decoder's raw output to a distribution over x.
        decoder: a `nets.Decoder`: maps (z, one-hot y), (*batch, latent_dim + num_classes), to the raw output.
        latent_dim: the number of dimensions of z.
        num_classes: C.
        conditional_prior: learn m and s for each class, from 0 and 1; else z ~ N(0, I) for all.

    Raises:
        ValueError: for sizes that do not fit the decoder; in `forward`, while Pyro validates, for labels
            outside 0 ... C - 1.

    Sohn, Lee and Yan, Learning Structured Output Representation using Deep Conditional Generative Models,
    NIPS 2015.

    >>> import ppl_vae as pv
    >>> from ppl_vae import guides, likelihoods, nets
    >>> decoder = nets.MLPDecoder(2 + 10, (1, 8, 8))
    >>> model = ConditionalVAE(likelihoods.Bernoulli(), decoder, latent_dim=2, num_classes=10)
    >>> guide = guides.Conditional(nets.MLPEncoder((1, 8, 8), 2), num_classes=10)
    >>> pair = pv.Pair(model, guide, example=(torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.long)))
    >>> pv.sample(pair, 4, inputs={"y": 7}).value.shape
    torch.Size([4, 1, 8, 8])
    """

    def __init__(
        self,
        likelihood: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        num_classes: int,
        conditional_prior: bool = True,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.decoder: Decoder = decoder
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        self.conditional_prior = conditional_prior
        require_place_for_labels(decoder, latent_dim, num_classes)
        if conditional_prior:
            self.prior_loc = nn.Parameter(torch.zeros(num_classes, latent_dim))
            self.prior_raw_scale = nn.Parameter(torch.zeros(num_classes, latent_dim))

    def forward(self, x: Tensor, y: Tensor) -> Any:
        """Draw z (latent_dim,) and x for each of the len(x) data, given its label."""
        require_labels(y, self.num_classes)
        loc, scale = x.new_zeros(self.latent_dim), x.new_ones(self.latent_dim)
        if self.conditional_prior:
            label = one_hot(y, self.num_classes, self.prior_loc.dtype)
            loc, scale = label @ self.prior_loc, positive_scale(label @ self.prior_raw_scale)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(loc, scale).to_event(1))
            raw = self.decoder(beside(z, y, self.num_classes))
            return pyro.sample("x", self.likelihood(raw), obs=x)
