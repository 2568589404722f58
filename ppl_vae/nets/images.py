"""What the nets on square images share: stages that halve or double the side, and their small end."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ppl_vae.nets.activations import Activation, activation_layer, width_factor
from ppl_vae.nets.initialisation import initialise
from ppl_vae.nets.mlp import MLP
from ppl_vae.nets.shapes import Flatten, OverImages, check_event, positive_size


def stage_widths(sides: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """Channels after each halving: `channels`, doubled with every further one.

    >>> stage_widths((28, 14, 7), channels=32)
    (32, 64)
    """
    return tuple(channels * 2**stage for stage in range(len(sides) - 1))


def downsample(width: int, out: int, activation: str | None = None) -> list[nn.Module]:
    """Layers that halve the side of an image: a 4 x 4 convolution of stride 2 and its activation."""
    factor = width_factor(activation) if activation else 1
    conv = nn.Conv2d(width, factor * out, kernel_size=4, stride=2, padding=1)
    initialise(conv, activation, parts=factor)
    return [conv, activation_layer(activation, dim=-3)] if activation else [conv]


def upsample(width: int, out: int, activation: str | None = None) -> list[nn.Module]:
    """Layers that double the side: the transpose of `downsample`. The stride divides the kernel, so every
    output pixel sees the same number of inputs and no checkerboard arises."""
    factor = width_factor(activation) if activation else 1
    conv = nn.ConvTranspose2d(width, factor * out, kernel_size=4, stride=2, padding=1)
    initialise(conv, activation, parts=factor)
    return [conv, activation_layer(activation, dim=-3)] if activation else [conv]


def image_trunk(
    layers: Sequence[nn.Module],
    shape: tuple[int, ...],
    small: tuple[int, int, int],
    num_features: int,
    activation: Activation,
    channels_last: bool,
) -> nn.Sequential:
    """The trunk of an encoder: layers from images `shape` to `small` ones, and a dense layer on those."""
    flatten = Flatten(small)
    units = positive_size("num_features", num_features)
    dense = MLP(flatten.num_features, (units,), activation=activation)
    return nn.Sequential(OverImages(nn.Sequential(*layers), shape, channels_last), flatten, dense)


class ImageDecoder(nn.Module):
    """A decoder that makes a small image by dense layers and a large one of it by transposed convolutions.

    Shapes: `(*batch, latent_dim)` to `(*batch, *shape)`, unconstrained. What is between the two ends is a
    subclass's, which sets all four.
    """

    latent_dim: int
    shape: tuple[int, ...]
    dense: nn.Module
    convolutions: OverImages

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias of the last layer, `(channels of the output,)`."""
        return self.convolutions.layers[-1].bias  # type: ignore[index,return-value]

    def forward(self, z: Tensor) -> Tensor:
        """(*batch, *shape): the raw output at codes z, (*batch, latent_dim)."""
        check_event(z, (self.latent_dim,))
        raw: Tensor = self.convolutions(self.dense(z))
        return raw
