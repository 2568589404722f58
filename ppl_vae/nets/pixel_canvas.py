"""Images that are drawn pixel by pixel: what the layers made of the finished part is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ppl_vae.nets.causal_conv import CausalConv

if TYPE_CHECKING:
    from ppl_vae.nets.pixel_cnn import PixelCNN


class PixelCanvas:
    """The images of a `PixelCNN` as they are drawn, row by row and in each from the left.

    Each layer runs at the one pixel, on its inputs that are kept from the pixels before; the stack of the
    rows above runs once for a row.

    Args:
        net: the net.
        context: (N, context_channels, height, width).
    """

    def __init__(self, net: PixelCNN, context: Tensor) -> None:
        self.net = net
        self._base = context[:, : net.raw_channels]
        self._first, *self._given = net.parts(net.context(context))
        self._empty = context.new_zeros(())
        self._kept: dict[CausalConv, Tensor] = {}
        self._links: list[Tensor] = []
        self._row = -1
        self._place = (0, 0, 1, 1)
        colours, self._height, self._width = net.shape
        for conv in (net.first_above, net.first_left):
            self._keep(conv, len(context), colours)

    def raw(self, row: int, column: int) -> Tensor:
        """(N, raw_channels, 1, 1): the raw output at a pixel, all before it being put."""
        if row != self._row:
            self._start_row(row)
        net, here = self.net, (..., slice(row, row + 1), slice(column, column + 1))
        self._place = (row, column, 1, 1)
        first, *links = (link[..., column : column + 1] for link in self._links)
        left = net.first_left.within(self._kept[net.first_left], *self._place)
        return self._base[here] + net.raw(left + first, links, self._apply)

    def put(self, row: int, column: int, x: Tensor) -> None:
        """Put the pixel, (N, colours), as the net sees it; colours that are not drawn yet are zero."""
        for conv in (self.net.first_above, self.net.first_left):
            self._kept[conv][..., row + conv.top, column + conv.margin] = x

    def _start_row(self, row: int) -> None:
        net, self._row = self.net, row
        self._place = (row, 0, 1, self._width)
        rows = (..., slice(row, row + 1), slice(None))
        above = net.first_above.within(self._kept[net.first_above], *self._place)
        given = [part[rows] for part in self._given]
        self._links = net.links(above + self._first[rows], given, self._apply)

    def _apply(self, conv: CausalConv, value: Tensor) -> Tensor:
        padded = self._kept[conv] if conv in self._kept else self._keep(conv, *value.shape[:2])
        row, column, height, width = self._place
        top, left = row + conv.top, column + conv.margin
        padded[..., top : top + height, left : left + width] = value
        return conv.within(padded, *self._place)

    def _keep(self, conv: CausalConv, count: int, channels: int) -> Tensor:
        empty = self._empty.new_zeros(count, channels, self._height, self._width)
        self._kept[conv] = conv.padded(empty)
        return self._kept[conv]
