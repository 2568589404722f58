"""The convolutional path up to a deep ladder's layers, and their posteriors, which begin at the priors."""

from __future__ import annotations

from torch import Tensor, nn

from ppl_vae.nets.activations import Activation, check_activation
from ppl_vae.nets.images import downsample
from ppl_vae.nets.initialisation import initialise
from ppl_vae.nets.ladder_paths import Residual, bottleneck, channels_of, stages
from ppl_vae.nets.scale import at_least_float32, positive_scale
from ppl_vae.nets.shapes import OverImages, positive_size, positive_sizes


class ConvBottomUp(nn.Module):
    r"""A bottom-up path of residual convolutions, and the posterior of each layer of a `ConvTopDown`.

    .. math:: q(z_l \mid x, z_{>l}) = \mathcal{N}\bigl(\mathrm{loc}_l + \mathrm{scale}_l \, a_l, \;
        (\mathrm{scale}_l \, b_l)^2\bigr), \qquad a_l, b_l = \mathrm{posterior}_l(h + d)

    with loc_l and scale_l the prior's, h the state above the layer and d the data's features at its side. At
    the start a = 0 and b = 1, so that every KL term begins at zero and grows as the layer finds a use.

    Args:
        shape: event shape of the data.
        layers, latent_channels, channels, activation: as of the `ConvTopDown`.
        num_blocks: residual blocks of each stage.

    Raises:
        ValueError: for bad sizes, or another number of stages.

    Vahdat and Kautz, NVAE, arXiv:2007.03898.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        layers: tuple[int, ...] = (2, 4, 6),
        latent_channels: tuple[int, ...] = (16, 4, 2),
        channels: int = 32,
        num_blocks: int = 2,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        check_activation(activation)
        self.shape = positive_sizes("shape", shape, minimum=3)
        self.sides, self.stage = stages(self.shape, layers)
        self.layers = tuple(layers)
        self.latent_channels = channels_of("latent_channels", latent_channels, self.sides)
        self.channels, self.activation = positive_size("channels", channels), activation
        self.num_blocks = positive_size("num_blocks", num_blocks)
        gain = (num_blocks * len(self.sides)) ** -0.5
        vector = nn.Conv2d(channels, channels, kernel_size=self.sides[1])
        initialise(vector)
        widths = (self.shape[0], *[channels] * (len(self.sides) - 2))
        down: list[list[nn.Module]] = [*(downsample(width, channels) for width in widths), [vector]]
        self.up = nn.ModuleList()
        shape = self.shape
        for layers_down, side in zip(down, self.sides[::-1], strict=True):
            blocks = [Residual(bottleneck(channels, channels, activation, gain)) for _ in range(num_blocks)]
            self.up.append(OverImages(nn.Sequential(*layers_down, *blocks), shape))
            shape = (channels, side, side)
        self.posteriors = nn.ModuleList()
        for stage in self.stage:
            side = self.sides[stage]
            head = bottleneck(channels, 2 * self.latent_channels[stage], activation, 0.0)
            self.posteriors.append(OverImages(head, (channels, side, side)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The features at each side, the smallest first."""
        found = []
        for stage in self.up:
            x = stage(x)
            found.append(x)
        return tuple(found[::-1])

    def posterior(
        self, layer: int, state: Tensor, evidence: tuple[Tensor, ...], loc: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The location and the scale of a layer's latent, relative to the prior's."""
        head = self.posteriors[layer](state + evidence[self.stage[layer]])
        moved, raw = at_least_float32(head).chunk(2, -3)
        return loc + scale * moved, scale * positive_scale(raw)
