"""The convolutional path down a deep ladder: residual, without normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_vae.nets.activations import Activation, check_activation
from ppl_vae.nets.images import upsample
from ppl_vae.nets.initialisation import initialise
from ppl_vae.nets.ladder_paths import Residual, bottleneck, channels_of, stages
from ppl_vae.nets.scale import at_least_float32, positive_scale
from ppl_vae.nets.shapes import OverImages, positive_size, positive_sizes


class ConvTopDown(nn.Module):
    r"""A top-down path of residual convolutions, whose image grows from stage to stage.

    .. math:: \mathrm{loc}_l, \mathrm{scale}_l, r_l = \mathrm{prior}_l(h), \qquad
        h' = h + r_l + E_l z_l, \qquad h \leftarrow h' + \mathrm{block}_l(h')

    h begins as a learned vector, at side 1, and ends at half the side of the data. Each branch begins with
    weights divided by the root of the number of layers, so that h stays of one size.

    Args:
        shape: event shape of the raw output, (channels, side, side), side at least 8 and divisible by 4.
        layers: stochastic layers of each stage, the top first: at the sides 1, 7 and 14 for images of 28.
        latent_channels: of a layer's latent, (latent_channels, side, side), by stage.
        channels: of h.
        activation: see `MLP`.

    Raises:
        ValueError: for bad sizes, or another number of stages.

    Child, Very Deep VAEs Generalize Autoregressive Models, arXiv:2011.10650.

    >>> path = ConvTopDown((1, 28, 28), layers=(2, 4, 6), latent_channels=(16, 4, 2))
    >>> [tuple(each.shape) for each in path.prior(0, path.start())]
    [(16, 1, 1), (16, 1, 1), (32, 1, 1)]
    """

    event_dim = 3

    def __init__(
        self,
        shape: tuple[int, ...],
        layers: tuple[int, ...] = (2, 4, 6),
        latent_channels: tuple[int, ...] = (16, 4, 2),
        channels: int = 32,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        check_activation(activation)
        self.shape = positive_sizes("shape", shape, minimum=3)
        self.sides, self.stage = stages(self.shape, layers)
        self.layers, self.num_layers = tuple(layers), len(self.stage)
        self.latent_channels = channels_of("latent_channels", latent_channels, self.sides)
        self.channels, self.activation = positive_size("channels", channels), activation
        gain = self.num_layers**-0.5
        self.top = nn.Parameter(torch.zeros(channels, 1, 1))
        self.priors, self.entries, self.blocks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stage in self.stage:
            latents, side = self.latent_channels[stage], self.sides[stage]
            small = (channels, side, side)
            prior = bottleneck(channels, 2 * latents + channels, activation, gain)
            entry = nn.Conv2d(latents, channels, kernel_size=1)
            initialise(entry)
            self.priors.append(OverImages(prior, small))
            self.entries.append(OverImages(entry, (latents, side, side)))
            self.blocks.append(OverImages(Residual(bottleneck(channels, channels, activation, gain)), small))
        first = nn.ConvTranspose2d(channels, channels, kernel_size=self.sides[1])
        initialise(first)
        larger = [
            nn.Sequential(first),
            *[nn.Sequential(*upsample(channels, channels)) for _ in self.sides[2:]],
        ]
        self.enlarge = nn.ModuleList(
            OverImages(layer, (channels, side, side)) for layer, side in zip(larger, self.sides)
        )
        self.last = OverImages(
            nn.Sequential(*upsample(channels, self.shape[0])), (channels, self.sides[-1], self.sides[-1])
        )

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias of the last layer, `(channels of the output,)`."""
        return self.last.layers[-1].bias  # type: ignore[index,return-value]

    def start(self) -> Tensor:
        """(channels, 1, 1): what is learned of data in general."""
        return self.top

    def prior(self, layer: int, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The location and the scale of a layer's latent, and the state with what goes by it."""
        latents = self.latent_channels[self.stage[layer]]
        loc, raw, past = self.priors[layer](state).split([latents, latents, self.channels], -3)
        return at_least_float32(loc), positive_scale(raw), state + past

    def after(self, layer: int, state: Tensor, z: Tensor) -> Tensor:
        """The state with a layer's latent in it, at the next stage's side where this was its last layer."""
        state = self.blocks[layer](state + self.entries[layer](z))
        if layer + 1 < self.num_layers and self.stage[layer + 1] != self.stage[layer]:
            state = self.enlarge[self.stage[layer]](state)
        return state

    def output(self, state: Tensor) -> Tensor:
        """(*batch, *shape): the raw output."""
        raw: Tensor = self.last(state)
        return raw
