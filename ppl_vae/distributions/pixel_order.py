"""What an autoregressive distribution asks of its net, and a canvas for any."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


class RawOutputs(Protocol):
    """The raw output of every pixel and colour of an image from those before it, and from a context.

    Shapes: x `(*batch, colours, height, width)` and context `(*batch, channels, height, width)` to
    `(*batch, raw_channels, height, width)`, for leading dims that broadcast. What stands at a pixel and
    colour must not depend on x there or later, row by row from the left.
    """

    raw_channels: int

    def __call__(self, x: Tensor, context: Tensor, /) -> Tensor: ...


class Canvas(Protocol):
    """Images as they are drawn."""

    def raw(self, row: int, column: int, /) -> Tensor:
        """(N, raw_channels, 1, 1): the raw output at a pixel, all before it being put."""
        ...

    def put(self, row: int, column: int, x: Tensor, /) -> None:
        """Put the pixel, (N, colours)."""
        ...


@runtime_checkable
class HasCanvas(Protocol):
    """Raw outputs that are found pixel by pixel for less than all of the image's costs."""

    def canvas(self, context: Tensor, /) -> Canvas:
        """Empty images at contexts, (N, channels, height, width)."""
        ...


class Anew:
    """A canvas for any net: all of the image is run through it for each pixel.

    Args:
        net: the net.
        context: (N, channels, height, width).
        colours: of a pixel.
    """

    def __init__(self, net: RawOutputs, context: Tensor, colours: int) -> None:
        self.net, self.context = net, context
        self.x = context.new_zeros(len(context), colours, *context.shape[-2:])

    def raw(self, row: int, column: int) -> Tensor:
        """(N, raw_channels, 1, 1)."""
        return self.net(self.x, self.context)[..., row : row + 1, column : column + 1]

    def put(self, row: int, column: int, x: Tensor) -> None:
        """Put the pixel, (N, colours)."""
        self.x[..., row, column] = x
