"""A convolution that looks at a pixel and at those before it, of a whole image or of a part of one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.nets.initialisation import initialise


class CausalConv(nn.Module):
    r"""A convolution whose kernel ends at the pixel itself: pixels to the right and below are not seen.

    Rows are whole: a kernel with `above` or `right` sees all of the rows above that it reaches, and in the
    pixel's own row what is to the right too, so its input must come from the rows above alone. Within a pixel
    the colours come one after the other. Channel j belongs to colour j mod `colours`, in the data, in the raw
    output of a likelihood, which has the colours of its first parameter first, and in between.

    Shapes: `(N, inputs, height, width)` to `(N, outputs, height, width)`.

    Args:
        inputs, outputs: channels.
        above, left, right: how many taps there are beside that of the pixel itself.
        dilation: pixels from one tap to the next.
        shift: by how many rows the kernel ends above the pixel.
        own: what an output sees of the pixel itself: "all" channels, those of "earlier" colours, or those
            "upto" its own colour.
        colours: how many there are.
        activation: what follows, for the initial weights.
    """

    own_taps: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        above: int = 0,
        left: int = 0,
        right: int = 0,
        dilation: int = 1,
        shift: int = 0,
        own: Literal["all", "earlier", "upto"] = "all",
        colours: int = 1,
        activation: str | None = None,
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.rows, self.columns = above * dilation, (left + right) * dilation
        # how far a value stands from the corner of the padded image
        self.top, self.margin, self.right = self.rows + shift, left * dilation, right * dilation
        layer = nn.Conv2d(inputs, outputs, (above + 1, left + right + 1))
        initialise(layer, activation)
        self.weight, self.bias = layer.weight, layer.bias
        hidden = own == "earlier" or (own == "upto" and colours > 1)
        self.register_buffer(
            "own_taps", _own_taps(layer.weight, own, colours) if hidden else None, persistent=False
        )

    @property
    def is_pointwise(self) -> bool:
        """Whether it looks at the pixel itself alone."""
        return not (self.top or self.columns)

    def forward(self, x: Tensor) -> Tensor:
        """All of the image."""
        return self.within(self.padded(x), 0, 0, x.shape[-2], x.shape[-1])

    def padded(self, x: Tensor) -> Tensor:
        """The image with the zeros around it that the kernel reaches."""
        if self.is_pointwise:
            return x
        return functional.pad(x, (self.margin, self.right, self.top, 0))

    def within(self, padded: Tensor, row: int, column: int, height: int, width: int) -> Tensor:
        """(N, outputs, height, width): the part whose corner is at `row` and `column`."""
        window = padded[..., row : row + height + self.rows, column : column + width + self.columns]
        weight = self.weight if self.own_taps is None else self.weight * self.own_taps
        return functional.conv2d(window, weight, self.bias, dilation=self.dilation)


def _own_taps(weight: Tensor, own: str, colours: int) -> Tensor:
    """Like `weight`: 0 where the tap of the pixel itself, the last one, would show a later colour."""
    outputs, inputs = (torch.arange(size) % colours for size in weight.shape[:2])
    difference = outputs[:, None] - inputs[None, :]
    taps = torch.ones_like(weight)
    taps[..., -1, -1] = (difference > 0 if own == "earlier" else difference >= 0).to(weight)
    return taps
