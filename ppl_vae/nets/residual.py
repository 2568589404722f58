"""Residual convolutional encoders and decoders for square images of any size divisible by 4."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from ppl_vae.nets.activations import Activation, activation_layer, check_activation, width_factor
from ppl_vae.nets.encoder import Encoder
from ppl_vae.nets.images import ImageDecoder, downsample, image_trunk, stage_widths, upsample
from ppl_vae.nets.initialisation import initialise
from ppl_vae.nets.mlp import MLP
from ppl_vae.nets.shapes import OverImages, image_sides, positive_size, positive_sizes


class ResidualBlock(nn.Module):
    r"""A residual block without normalisation layers, after He et al. (arXiv:1512.03385).

        h + conv_2(activation(conv_1(h)))

    The data of a batch stay independent, which a bound per datum needs; what batch normalisation would do
    for a deep stack the initial weights do: those of conv_2 are multiplied by 1 / sqrt(number of blocks of
    the net), as in arXiv:2011.10650, so that the variance grows by a bounded factor over all blocks.

    Shapes: `(N, width, height, width)` to the same.

    Args:
        width: channels.
        activation: see `MLP`.
        branch_gain: factor on the initial weights of conv_2.
    """

    def __init__(self, width: int, activation: Activation = "silu", branch_gain: float = 1.0) -> None:
        super().__init__()
        self.width = width
        self.activation = activation
        self.branch_gain = branch_gain
        factor = width_factor(activation)
        first = nn.Conv2d(width, factor * width, kernel_size=3, padding=1)
        second = nn.Conv2d(width, width, kernel_size=3, padding=1)
        initialise(first, activation, parts=factor)
        initialise(second)
        with torch.no_grad():
            second.weight.mul_(branch_gain)
        self.branch = nn.Sequential(first, activation_layer(activation, dim=-3), second)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.branch(h)
        return out


class ResidualEncoder(Encoder):
    r"""An encoder of residual blocks between strided convolutions, and one dense layer.

    As `ConvEncoder`, with `num_blocks` residual blocks after each halving in place of an activation.

    Shapes: `(*batch, *shape)` to a pair of `(*batch, latent_dim)`.

    Args:
        shape: event shape of the data, (channels, side, side), side at least 8 and divisible by 4.
        latent_dim: dimension of the latent variable.
        channels: channels after the first halving; they double with every further one.
        num_blocks: residual blocks after each halving.
        num_features: units of the dense layer.
        activation: see `MLP`.
        channels_last: see `ConvEncoder`.
        min_scale: floor of the scale, see `positive_scale`.
        max_scale: cap of the scale, see `positive_scale`.

    Raises:
        ValueError: for bad sizes or options, or an input of another event shape.

    >>> import torch
    >>> loc, scale = ResidualEncoder((1, 28, 28), latent_dim=2, channels=8)(torch.zeros(5, 1, 28, 28))
    >>> loc.shape, scale.shape
    (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent_dim: int,
        channels: int = 32,
        num_blocks: int = 2,
        num_features: int = 256,
        activation: Activation = "silu",
        channels_last: bool = False,
        min_scale: float = 1e-4,
        max_scale: float = 1e2,
    ) -> None:
        check_activation(activation)
        shape = positive_sizes("shape", shape, minimum=1)
        sides = image_sides(shape)
        widths = stage_widths(sides, positive_size("channels", channels))
        gain = (positive_size("num_blocks", num_blocks) * len(widths)) ** -0.5
        layers: list[nn.Module] = []
        for width, out in pairwise((shape[0], *widths)):
            layers += downsample(width, out)
            layers += [ResidualBlock(out, activation, gain) for _ in range(num_blocks)]
        small = (widths[-1], sides[-1], sides[-1])
        trunk = image_trunk(layers, shape, small, num_features, activation, channels_last)
        super().__init__(trunk, num_features, latent_dim, min_scale, max_scale)
        self.shape = shape
        self.channels = channels
        self.num_blocks = num_blocks
        self.activation = activation
        self.channels_last = channels_last


class ResidualDecoder(ImageDecoder):
    r"""A decoder of residual blocks between transposed convolutions, the mirror image of `ResidualEncoder`.

    Shapes: `(*batch, latent_dim)` to `(*batch, *shape)`, unconstrained. `output_bias` has one entry per
    channel.

    Args:
        latent_dim: dimension of the latent variable.
        shape: event shape of the output, (channels, side, side), side at least 8 and divisible by 4:
            `likelihood.raw_shape(event shape of the data)`.
        channels: channels before the last doubling.
        num_blocks: residual blocks before each doubling.
        num_features: units of the first dense layer.
        activation: see `MLP`.
        channels_last: see `ConvEncoder`.

    Raises:
        ValueError: for bad sizes or options, or an input of another width.

    >>> import torch
    >>> ResidualDecoder(latent_dim=2, shape=(1, 28, 28), channels=8)(torch.zeros(3, 5, 2)).shape
    torch.Size([3, 5, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        channels: int = 32,
        num_blocks: int = 2,
        num_features: int = 256,
        activation: Activation = "silu",
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        check_activation(activation)
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.shape = positive_sizes("shape", shape, minimum=1)
        self.channels = positive_size("channels", channels)
        self.num_blocks = positive_size("num_blocks", num_blocks)
        self.num_features = positive_size("num_features", num_features)
        self.activation = activation
        self.channels_last = channels_last

        sides = image_sides(self.shape)
        widths = stage_widths(sides, channels)[::-1]
        small = (widths[0], sides[-1], sides[-1])
        first = small[0] * small[1] * small[2]
        gain = (num_blocks * len(widths)) ** -0.5
        layers: list[nn.Module] = []
        for width, out in pairwise((*widths, self.shape[0])):
            layers += [ResidualBlock(width, activation, gain) for _ in range(num_blocks)]
            layers += upsample(width, out)
        self.dense = nn.Sequential(
            MLP(latent_dim, (num_features,), first, activation), nn.Unflatten(-1, small)
        )
        self.convolutions = OverImages(nn.Sequential(*layers), small, channels_last)
