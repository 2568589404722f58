"""The semi-supervised VAE (M2): a label that is latent where it is missing, and a continuous latent."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets.contracts import Decoder
from ppl_vae.nets.labels import beside, require_place_for_labels


class SemiSupervisedVAE(nn.Module):
    r"""Data of a class y and of a style z: the model M2.

    .. math:: y \sim \mathrm{Categorical}(1/C), \quad z \sim \mathcal{N}(0, I), \quad
        x \mid y, z \sim \mathrm{likelihood}(\mathrm{decoder}(z, y))

    The label is a latent site `y` like any other, and belongs to `guides.SemiSupervised`, which puts all
    of q(y) on a label that is known. So one batch may hold data with and without labels, every
    question and every estimator means the same as elsewhere, and for a known label the bound is one
    on log p(x, y). Train with `pyro.infer.TraceEnum_ELBO()` or its equal `estimators.EnumeratedELBO()`.

    Args:
        likelihood: a `likelihoods.Likelihood`, from the decoder's raw output to a distribution over x.
        decoder: a `nets.Decoder`: maps (z, one-hot y), (*batch, latent_dim + num_classes), to the raw output.
        latent_dim: the number of dimensions of z.
        num_classes: C.

    Raises:
        ValueError: for sizes that do not fit the decoder.

    Kingma et al., Semi-supervised Learning with Deep Generative Models, arXiv:1406.5298.
    """

    def __init__(self, likelihood: nn.Module, decoder: nn.Module, latent_dim: int, num_classes: int) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.decoder: Decoder = decoder
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        require_place_for_labels(decoder, latent_dim, num_classes)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        """Draw y (), z (latent_dim,) and x for each of the len(x) data;
        the labels are the guide's business.
        """
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=x.new_zeros(self.num_classes)))
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            raw = self.decoder(beside(z, y, self.num_classes))
            return pyro.sample("x", self.likelihood(raw), obs=x)
