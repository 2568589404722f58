"""A residual block of the two stacks of a PixelCNN: the rows above, and the pixels to the left."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ppl_vae.nets.activations import activation_layer
from ppl_vae.nets.causal_conv import CausalConv
from ppl_vae.nets.shapes import positive_size

Apply = Callable[[CausalConv, Tensor], Tensor]
"""How a layer that looks beyond its pixel is run: on the whole image, or on a part beside what is kept."""


class PixelBlock(nn.Module):
    """A residual block of either stack, with the link from the one above to the one to the left."""

    def __init__(
        self, channels: int, colours: int, reach: int, dilation: int, activation: str, gain: float
    ) -> None:
        super().__init__()
        width = max(channels // 2, colours)

        def pointwise(inputs: int, outputs: int, factor: float = 1.0) -> CausalConv:
            conv = CausalConv(inputs, outputs, own="upto", colours=colours, activation=activation)
            with torch.no_grad():
                conv.weight.mul_(factor)
            return conv

        self.width = width
        self.activation = activation_layer(activation)
        self.into_above = CausalConv(channels, width, activation=activation)
        self.above = CausalConv(
            width, width, above=reach, left=reach, right=reach, dilation=dilation, activation=activation
        )
        self.out_above = CausalConv(width, channels)
        with torch.no_grad():
            self.out_above.weight.mul_(gain)
        self.link = CausalConv(channels, width, activation=activation)
        self.into_left = pointwise(channels, width)
        self.left = CausalConv(
            width, width, left=reach, dilation=dilation, own="upto", colours=colours, activation=activation
        )
        self.out_left = pointwise(width, channels, gain)

    def look_above(self, h: Tensor, given: Tensor, beside: Tensor, apply: Apply) -> tuple[Tensor, Tensor]:
        """The rows above, one block later, and what they tell the pixels to the left."""
        inner = self.activation(self.into_above(self.activation(h)))
        h = h + self.out_above(self.activation(apply(self.above, inner) + given))
        return h, self.link(self.activation(h)) + beside

    def look_left(self, h: Tensor, link: Tensor, apply: Apply) -> Tensor:
        """The pixels to the left, one block later."""
        inner = self.activation(self.into_left(self.activation(h)))
        return h + self.out_left(self.activation(apply(self.left, inner) + link))


def check_sizes(colours: int, raw_channels: int, channels: int, given: int, kernels: dict[str, int]) -> None:
    """Raise ValueError for sizes that make no `PixelCNN`."""
    if raw_channels % colours:
        raise ValueError(
            f"PixelCNN: {raw_channels} raw channels are not as many for each of {colours} colours: give "
            "raw_channels=likelihood.raw_shape(shape)[0]"
        )
    if channels < colours:
        raise ValueError(f"PixelCNN: {colours} colours need as many channels or more, got {channels}")
    if given < raw_channels:
        raise ValueError(
            f"PixelCNN: the context holds the raw output, so context_channels must be {raw_channels} or "
            f"more, got {given}"
        )
    for name, size in kernels.items():
        if positive_size(name, size) % 2 == 0:
            raise ValueError(f"PixelCNN: {name} must be odd, got {size}")


def whole(conv: CausalConv, value: Tensor) -> Tensor:
    """Run a layer on the whole image."""
    out: Tensor = conv(value)
    return out


def folded(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer on images with any leading dims."""
    lead = x.shape[:-3]
    out: Tensor = layer(x.reshape(math.prod(lead), *x.shape[-3:]))
    return out.view(*lead, *out.shape[1:])
