"""The sigmoid belief network: layers of bits, each the prior of the one below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pyro
import torch
from torch import Tensor, nn

from ppl_vae.distributions.bits import Bits
from ppl_vae.likelihoods.contract import Likelihood
from ppl_vae.nets import MLPDecoder
from ppl_vae.nets.activations import Activation
from ppl_vae.nets.contracts import Decoder
from ppl_vae.nets.ladder_layers import dense_layers, require_layers


class SigmoidBeliefNetwork(nn.Module):
    r"""L layers of bits, z1 (next to the data) ... zL (the top), drawn from the top down.

    .. math:: z_{Lj} \sim \mathrm{Bernoulli}(\sigma(b_j)), \quad z_{lj} \mid z_{l+1} \sim
        \mathrm{Bernoulli}\bigl(\sigma(\mathrm{loc}_{lj})\bigr), \quad
        x \mid z_1 \sim \mathrm{likelihood}(\mathrm{decoder}(z_1))

    The logits are the locs of the nets between the layers; their scales are not used. b is learned, from 0.
    The guide is `guides.BernoulliLayers`. One layer is `models.VAE` with `priors.Bernoulli` by other
    names of the sites.

    Args:
        likelihood: a `likelihoods.Likelihood`, from the decoder's raw output to a distribution over x.
        decoder: a `nets.Decoder`: maps z1, to the raw output.
        layers: L - 1 nets to (loc, scale), the l-th from z_{l+1} to the logits of z_l.
        latent_dims: the numbers of bits in z1, ..., zL.

    Raises:
        ValueError: for another number of nets than layers, or a decoder of another size.

    Neal, Connectionist Learning of Belief Networks, 1992; Mnih and Gregor, arXiv:1402.0030.

    >>> from ppl_vae import Pair, guides, likelihoods
    >>> shape = (1, 28, 28)
    >>> model = SigmoidBeliefNetwork.dense(likelihoods.Bernoulli(), shape, latent_dims=(200, 200))
    >>> pair = Pair(model, guides.BernoulliLayers.dense(shape, latent_dims=(200, 200)))
    """

    def __init__(
        self,
        likelihood: nn.Module,
        decoder: nn.Module,
        layers: Sequence[nn.Module],
        latent_dims: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.decoder: Decoder = decoder
        self.layers = nn.ModuleList(layers)
        self.latent_dims = tuple(latent_dims)
        require_layers(decoder, self.layers, self.latent_dims)
        self.top = nn.Parameter(torch.zeros(self.latent_dims[-1]))

    @classmethod
    def dense(
        cls,
        likelihood: nn.Module,
        shape: tuple[int, ...],
        latent_dims: tuple[int, ...] = (200, 200),
        hidden: tuple[tuple[int, ...], ...] = ((), ()),
        activation: Activation = "tanh",
    ) -> SigmoidBeliefNetwork:
        """Multilayer perceptrons, `hidden[0]` between z1 and x, `hidden[l]` between z_{l+1} and z_l; linear
        maps by default.
        """
        raw_shape = cast(Likelihood, likelihood).raw_shape(shape)
        decoder = MLPDecoder(latent_dims[0], raw_shape, hidden[0], activation)
        layers = dense_layers(latent_dims, hidden[1:], False, activation)
        return cls(likelihood, decoder, layers, latent_dims)

    def forward(self, x: Tensor) -> Any:
        """Draw zL, ..., z1 and x for each of the len(x) data."""
        with pyro.plate("data", len(x), dim=-1):
            above = pyro.sample(f"z{len(self.latent_dims)}", Bits(logits=self.top).to_event(1))
            for number in range(len(self.layers), 0, -1):
                logits, _ = self.layers[number - 1](above)
                above = pyro.sample(f"z{number}", Bits(logits=logits).to_event(1))
            return pyro.sample("x", self.likelihood(self.decoder(above)), obs=x)
