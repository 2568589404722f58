"""The ladder VAE: a chain of stochastic layers, each the prior of the one below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.likelihoods.contract import Likelihood
from ppl_vae.nets import ConvDecoder, MLPDecoder
from ppl_vae.nets.activations import Activation
from ppl_vae.nets.contracts import Decoder
from ppl_vae.nets.ladder_layers import dense_layers, input_width, require_layers, side_by_side


class LadderVAE(nn.Module):
    r"""L stochastic layers z1 (next to the data) ... zL (the top), drawn from the top down.

    .. math:: z_L \sim \mathcal{N}(0, I), \quad z_l \mid z_{l+1} \sim
        \mathcal{N}\bigl(\mathrm{loc}_l, \mathrm{diag}\,\mathrm{scale}_l^2\bigr), \quad
        x \mid z_1 \sim \mathrm{likelihood}(\mathrm{decoder}(z_1))

    With `skip`, every net on the way sees all layers above it, and not the nearest alone: loc_l and
    scale_l are functions of (z_{l+1}, ..., z_L), and the decoder's input is (z_1, ..., z_L).
    The guide is `guides.BottomUp` or `guides.TopDown`; the logs have the KL of each layer.

    Args:
        likelihood: a `likelihoods.Likelihood`, from the decoder's raw output to a distribution over x.
        decoder: a `nets.Decoder`: maps z1, or all layers with `skip`, to the raw output.
        layers: L - 1 nets, the l-th from what is above z_l to its (loc, scale).
        latent_dims: the dimensions of z1, ..., zL.
        skip: connections that skip layers.

    Raises:
        ValueError: for another number of nets than layers, or a decoder of another size.

    Sønderby et al., Ladder Variational Autoencoders, arXiv:1602.02282.

    The two-layer network of Burda et al., arXiv:1509.00519, is what `dense` makes by default:

    >>> from ppl_vae import Pair, guides, likelihoods
    >>> shape = (1, 28, 28)
    >>> model = LadderVAE.dense(likelihoods.Bernoulli(), shape, (100, 50), ((200, 200), (100, 100)))
    >>> pair = Pair(model, guides.BottomUp.dense(shape, (100, 50), ((200, 200), (100, 100))))
    """

    def __init__(
        self,
        likelihood: nn.Module,
        decoder: nn.Module,
        layers: Sequence[nn.Module],
        latent_dims: tuple[int, ...],
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.decoder: Decoder = decoder
        self.layers = nn.ModuleList(layers)
        self.latent_dims = tuple(latent_dims)
        self.skip = skip
        require_layers(decoder, self.layers, self.latent_dims, skip)

    @classmethod
    def dense(
        cls,
        likelihood: nn.Module,
        shape: tuple[int, ...],
        latent_dims: tuple[int, ...] = (100, 50),
        hidden: tuple[tuple[int, ...], ...] = ((200, 200), (100, 100)),
        skip: bool = False,
        activation: Activation = "tanh",
    ) -> LadderVAE:
        """Multilayer perceptrons throughout: `hidden[0]` between z1 and x,
        `hidden[l]` between z_{l+1} and z_l.
        """
        raw_shape, width = cast(Likelihood, likelihood).raw_shape(shape), input_width(latent_dims, 0, skip)
        decoder = MLPDecoder(width, raw_shape, hidden[0], activation)
        layers = dense_layers(latent_dims, hidden[1:], skip, activation)
        return cls(likelihood, decoder, layers, latent_dims, skip)

    @classmethod
    def convolutional(
        cls,
        likelihood: nn.Module,
        shape: tuple[int, ...],
        latent_dims: tuple[int, ...] = (64, 32),
        channels: int = 32,
        num_features: int = 256,
        hidden: tuple[tuple[int, ...], ...] = ((128,),),
        skip: bool = False,
        activation: Activation = "relu",
    ) -> LadderVAE:
        """A `ConvDecoder` between z1 and x, and multilayer perceptrons between the layers,
        `hidden[0]` the first.
        """
        raw_shape, width = cast(Likelihood, likelihood).raw_shape(shape), input_width(latent_dims, 0, skip)
        decoder = ConvDecoder(width, raw_shape, channels, num_features, activation)
        layers = dense_layers(latent_dims, hidden, skip, activation)
        return cls(likelihood, decoder, layers, latent_dims, skip)

    def forward(self, x: Tensor) -> Any:
        """Draw zL, ..., z1 and x for each of the len(x) data."""
        with pyro.plate("data", len(x), dim=-1):
            top = dist.Normal(x.new_zeros(self.latent_dims[-1]), 1.0).to_event(1)
            above = pyro.sample(f"z{len(self.latent_dims)}", top)
            for number in range(len(self.layers), 0, -1):
                loc, scale = self.layers[number - 1](above)
                z = pyro.sample(f"z{number}", dist.Normal(loc, scale).to_event(1))
                above = side_by_side(z, above) if self.skip else z
            return pyro.sample("x", self.likelihood(self.decoder(above)), obs=x)
