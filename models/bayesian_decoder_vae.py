"""A VAE whose decoder has a prior on its weights: global latents beside the local ones."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.nets.activations import Activation, activation_layer, check_activation
from ppl_vae.nets.shapes import positive_size, positive_sizes


class BayesianDecoderVAE(nn.Module):
    r"""A latent z for each datum, and decoder weights W_1, ... that all data share.

    .. math:: W_l \sim \mathcal{N}\bigl(0, s^2 / \mathrm{fan\_in}_l\bigr), \qquad
        z_i \sim \mathcal{N}(0, I), \qquad x_i \mid z_i, W \sim \mathrm{likelihood}(\mathrm{MLP}_W(z_i))

    The weights, the bias their last column, are the sites `weight1`, `weight2`, ... outside the plate
    `data`. The plate knows that a batch is a part of `data_size` data, so the N/B of it multiplies the data's
    terms and not the weights': the bound is one on the evidence of the whole data set. Bounds that weigh
    the particles of each datum apart have no place for such sites and refuse them; `estimators.ELBO`
    and `MeanFieldELBO` treat them. `pyro.infer.RenyiELBO` has one weight for the whole batch, and N/B
    inside its logarithm: what it gives is no bound.

    Args:
        likelihood: a `likelihoods.Likelihood`, from the decoder's raw output to a distribution over x.
        shape: event shape of the raw output, `likelihood.raw_shape(event shape of the data)`.
        latent_dim: the number of dimensions of z.
        data_size: N, the number of data in the training set.
        hidden: widths of the decoder's hidden layers; () makes it linear.
        activation: see `nets.MLP`; not "gated".
        prior_scale: s.

    Raises:
        ValueError: for bad sizes or options.

    Kingma and Welling, Auto-Encoding Variational Bayes, appendix F, arXiv:1312.6114.
    """

    def __init__(
        self,
        likelihood: nn.Module,
        shape: tuple[int, ...],
        latent_dim: int,
        data_size: int,
        hidden: tuple[int, ...] = (50,),
        activation: Activation = "tanh",
        prior_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_activation(activation)
        if activation == "gated":
            raise ValueError("activation 'gated' needs two weights a unit: choose another")
        if not prior_scale > 0:
            raise ValueError(f"prior_scale must be positive, got {prior_scale}")
        self.likelihood = likelihood
        self.shape = positive_sizes("shape", shape, minimum=1)
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.data_size = positive_size("data_size", data_size)
        self.hidden = positive_sizes("hidden", hidden)
        self.activation = activation
        self.prior_scale = prior_scale
        self._nonlinearity = activation_layer(activation)

    @property
    def weight_shapes(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs + 1) of each layer: the event shapes of the sites `weight1`, `weight2`, ..."""
        widths = self.latent_dim, *self.hidden, math.prod(self.shape)
        return tuple((out, into + 1) for into, out in pairwise(widths))

    def forward(self, x: Tensor) -> Any:
        """Draw the weights, and z (latent_dim,) and x for each of the len(x) data."""
        weights = []
        for number, (out, into) in enumerate(self.weight_shapes, start=1):
            prior = dist.Normal(x.new_zeros(out, into), self.prior_scale / math.sqrt(into)).to_event(2)
            weights.append(pyro.sample(f"weight{number}", prior))
        # more data than the training set has are no sample of it: N/B is 1 then
        size = max(self.data_size, len(x))
        with pyro.plate("data", size, subsample=torch.arange(len(x), device=x.device), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            return pyro.sample("x", self.likelihood(self.decode(z, weights)), obs=x)

    def decode(self, z: Tensor, weights: list[Tensor]) -> Tensor:
        """(..., B, latent_dim) and weights (..., 1, out, in + 1), or (out, in + 1), to (..., B, *shape)."""
        for number, weight in enumerate(weights):
            # einsum, since matmul would copy the weights for every datum
            product = torch.einsum("...oi,...i->...o", weight[..., :-1], z)
            z = product + weight[..., -1]
            if number < len(weights) - 1:
                z = self._nonlinearity(z)
        return z.unflatten(-1, self.shape) if len(self.shape) > 1 else z
