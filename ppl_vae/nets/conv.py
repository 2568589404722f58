"""Convolutional encoders and decoders for square images of any size divisible by 4."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from ppl_vae.nets.activations import Activation, check_activation
from ppl_vae.nets.encoder import Encoder
from ppl_vae.nets.images import ImageDecoder, downsample, image_trunk, stage_widths, upsample
from ppl_vae.nets.mlp import MLP
from ppl_vae.nets.shapes import OverImages, image_sides, positive_size, positive_sizes


class ConvEncoder(Encoder):
    r"""An encoder of strided convolutions and one dense layer.

    A 4 x 4 convolution of stride 2 halves the image while its side is even and above 4 (28 -> 14 -> 7,
    64 -> 32 -> 16 -> 8 -> 4), and the channels double: `channels`, 2 `channels`, ... A dense layer of
    `num_features` units, then the head, follow.

    Shapes: `(*batch, *shape)` to a pair of `(*batch, latent_dim)`.

    Args:
        shape: event shape of the data, (channels, side, side), side at least 8 and divisible by 4.
        latent_dim: dimension of the latent variable.
        channels: channels after the first halving.
        num_features: units of the dense layer.
        activation: see `MLP`.
        channels_last: keep the weights and run the convolutions in the channels_last memory format, which
            is the faster one on recent GPUs in half precision. The result is the same.
        min_scale: floor of the scale, see `positive_scale`.
        max_scale: cap of the scale, see `positive_scale`.

    Raises:
        ValueError: for bad sizes or options, or an input of another event shape.

    >>> import torch
    >>> loc, scale = ConvEncoder((1, 28, 28), latent_dim=2, channels=8)(torch.zeros(5, 1, 28, 28))
    >>> loc.shape, scale.shape
    (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent_dim: int,
        channels: int = 32,
        num_features: int = 256,
        activation: Activation = "relu",
        channels_last: bool = False,
        min_scale: float = 1e-4,
        max_scale: float = 1e2,
    ) -> None:
        check_activation(activation)
        shape = positive_sizes("shape", shape, minimum=1)
        sides = image_sides(shape)
        widths = stage_widths(sides, positive_size("channels", channels))
        layers: list[nn.Module] = []
        for width, out in pairwise((shape[0], *widths)):
            layers += downsample(width, out, activation)
        small = (widths[-1], sides[-1], sides[-1])
        trunk = image_trunk(layers, shape, small, num_features, activation, channels_last)
        super().__init__(trunk, num_features, latent_dim, min_scale, max_scale)
        self.shape = shape
        self.channels = channels
        self.activation = activation
        self.channels_last = channels_last


class ConvDecoder(ImageDecoder):
    r"""A decoder of dense layers and transposed convolutions, the mirror image of `ConvEncoder`.

    Shapes: `(*batch, latent_dim)` to `(*batch, *shape)`, unconstrained. `output_bias` has one entry per
    channel.

    Args:
        latent_dim: dimension of the latent variable.
        shape: event shape of the output, (channels, side, side), side at least 8 and divisible by 4:
            `likelihood.raw_shape(event shape of the data)`.
        channels: channels before the last doubling.
        num_features: units of the first dense layer.
        activation: see `MLP`.
        channels_last: see `ConvEncoder`.

    Raises:
        ValueError: for bad sizes or options, or an input of another width.

    >>> import torch
    >>> ConvDecoder(latent_dim=2, shape=(1, 28, 28), channels=8)(torch.zeros(3, 5, 2)).shape
    torch.Size([3, 5, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        channels: int = 32,
        num_features: int = 256,
        activation: Activation = "relu",
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        check_activation(activation)
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.shape = positive_sizes("shape", shape, minimum=1)
        self.channels = positive_size("channels", channels)
        self.num_features = positive_size("num_features", num_features)
        self.activation = activation
        self.channels_last = channels_last

        sides = image_sides(self.shape)
        widths = stage_widths(sides, channels)[::-1]
        small = (widths[0], sides[-1], sides[-1])
        first = small[0] * small[1] * small[2]
        layers: list[nn.Module] = []
        for width, out in pairwise(widths):
            layers += upsample(width, out, activation)
        layers += upsample(widths[-1], self.shape[0])
        self.dense = nn.Sequential(
            MLP(latent_dim, (num_features, first), activation=activation), nn.Unflatten(-1, small)
        )
        self.convolutions = OverImages(nn.Sequential(*layers), small, channels_last)
