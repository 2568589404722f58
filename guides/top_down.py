"""The top-down guide of a hierarchy: evidence from below and the model's own prior from above, merged."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.nets import ConvEncoder, Encoder, MLPEncoder
from ppl_vae.nets.activations import Activation


class TopDown(nn.Module):
    r"""Each layer given x and a draw of the layers above it, zL first: the ladder's guide.

    A deterministic pass from the data up gives each layer a location and a scale,

    .. math:: d_1 = \mathrm{trunk}_1(x), \quad d_l = \mathrm{trunk}_l(d_{l-1}), \quad
        \hat\mu_l, \hat\sigma_l = \mathrm{head}_l(d_l),

    and on the way down they are merged with the prior N(mu_l, sigma_l^2) that the model's own nets make of
    the layers above, each weighted with its precision:

    .. math:: q(z_L \mid x) = \mathcal{N}(\hat\mu_L, \hat\sigma_L^2), \quad
        q(z_l \mid x, z_{l+1}) = \mathcal{N}\left(\frac{\hat\mu_l \hat\sigma_l^{-2} + \mu_l \sigma_l^{-2}}
        {\hat\sigma_l^{-2} + \sigma_l^{-2}}, \frac{1}{\hat\sigma_l^{-2} + \sigma_l^{-2}}\right)

    Model and guide draw in the same order, so every layer's KL term has a closed form given the layers
    above, which `estimators.MeanFieldELBO` takes.

    Args:
        encoders: L encoders, the first of x, each other of the features of the one before it.
        layers: the model's nets between its layers, `model.layers`: shared, not copied.
        skip: the model's `skip`.

    Raises:
        ValueError: for another number of nets than one less than encoders.

    Sønderby et al., Ladder Variational Autoencoders, arXiv:1602.02282.

    >>> from ppl_vae import Pair, likelihoods, models
    >>> model = models.LadderVAE.dense(likelihoods.Bernoulli(), (1, 8, 8), (8, 4), ((32,), (16,)))
    >>> pair = Pair(model, TopDown.dense((1, 8, 8), model.layers, (8, 4), ((32,), (16,))))
    """

    def __init__(self, encoders: Sequence[Encoder], layers: Sequence[nn.Module], skip: bool = False) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.layers = nn.ModuleList(layers)
        self.skip = skip
        if len(self.layers) != len(self.encoders) - 1:
            raise ValueError(
                f"{len(self.encoders)} encoders stand for as many latent layers, with "
                f"{len(self.encoders) - 1} nets of the model between them, got {len(self.layers)}"
            )

    @classmethod
    def dense(
        cls,
        shape: tuple[int, ...],
        layers: Sequence[nn.Module],
        latent_dims: tuple[int, ...] = (100, 50),
        hidden: tuple[tuple[int, ...], ...] = ((200, 200), (100, 100)),
        skip: bool = False,
        activation: Activation = "tanh",
    ) -> TopDown:
        """Multilayer perceptrons, the guide of `LadderVAE.dense`;
        `hidden[l]` leads to the features of z_{l+1}.
        """
        first = MLPEncoder(shape, latent_dims[0], hidden[0], activation)
        return cls([first, *_above(first, latent_dims, hidden[1:], activation)], layers, skip)

    @classmethod
    def convolutional(
        cls,
        shape: tuple[int, ...],
        layers: Sequence[nn.Module],
        latent_dims: tuple[int, ...] = (64, 32),
        channels: int = 32,
        num_features: int = 256,
        hidden: tuple[tuple[int, ...], ...] = ((128,),),
        skip: bool = False,
        activation: Activation = "relu",
    ) -> TopDown:
        """A `ConvEncoder` of x, then multilayer perceptrons: the guide of `LadderVAE.convolutional`."""
        first = ConvEncoder(shape, latent_dims[0], channels, num_features, activation)
        return cls([first, *_above(first, latent_dims, hidden, activation)], layers, skip)

    def forward(self, x: Tensor) -> Tensor:
        """Draw zL, ..., z1 for each of the len(x) data; z1 comes back."""
        features, evidence = x, []
        for encoder in self.encoders:
            features = encoder.trunk(features)  # type: ignore[operator]
            evidence.append(encoder.head(features))  # type: ignore[operator]
        with pyro.plate("data", len(x), dim=-1):
            loc, scale = evidence.pop()
            z = above = pyro.sample(f"z{len(self.encoders)}", dist.Normal(loc, scale).to_event(1))
            for number in range(len(self.layers), 0, -1):
                loc, scale = merged(*evidence.pop(), *self.layers[number - 1](above))
                z = pyro.sample(f"z{number}", dist.Normal(loc, scale).to_event(1))
                above = torch.cat([z, above], -1) if self.skip else z
        return z


def merged(loc: Tensor, scale: Tensor, prior_loc: Tensor, prior_scale: Tensor) -> tuple[Tensor, Tensor]:
    """The location and scale of the normalised product of two normal densities."""
    variance, prior_variance = scale.square(), prior_scale.square()
    share = prior_variance / (variance + prior_variance)  # of the evidence: its precision in the sum of both
    return prior_loc + share * (loc - prior_loc), (variance * share).sqrt()


def _above(
    first: Encoder,
    latent_dims: tuple[int, ...],
    hidden: tuple[tuple[int, ...], ...],
    activation: Activation,
) -> Sequence[Encoder]:
    if len(hidden) != len(latent_dims) - 1:
        raise ValueError(
            f"{len(latent_dims)} latent layers {tuple(latent_dims)} need hidden widths for "
            f"{len(latent_dims) - 1} nets between them, got {hidden}"
        )
    encoders, features = [], first.num_features
    for latent_dim, widths in zip(latent_dims[1:], hidden, strict=True):
        encoders.append(MLPEncoder((features,), latent_dim, widths, activation))
        features = encoders[-1].num_features
    return encoders
