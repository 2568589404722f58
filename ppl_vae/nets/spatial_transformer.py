"""Objects on a canvas: a glimpse of it at a place, and a glimpse put back there."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ppl_vae.nets.shapes import check_event, positive_sizes


class SpatialTransformer(nn.Module):
    r"""Between a canvas and square glimpses of it, which stand anywhere, larger or smaller, but not turned.

    .. math:: u = c + s v, \qquad s = \mathrm{size} \, e^{\mathrm{size\_spread} \, w_1}, \qquad
        c = \mathrm{place\_spread} \, (w_2, w_3)

    with u on the canvas and v in the glimpse, each from -1 to 1 from edge to edge, and `where` = w, for which
    the standard normal is a prior; c is across, then down. Between pixels all is bilinear, and outside zero,
    as of `torch.nn.functional.grid_sample`; without a turn that is a matrix for the rows and one for the
    columns, which takes any leading dims and is captured.

    Shapes: where `(*batch, 3)`, canvas `(*batch, *shape)`, glimpse `(*batch, *glimpse_shape)`.

    Args:
        shape: of the canvas, (channels, height, width).
        glimpse_shape: (channels, side, side), of as many channels.
        size: how much of the canvas's side a glimpse covers, where w is 0.
        size_spread: the standard deviation of its logarithm.
        place_spread: the standard deviation of its middle.

    Raises:
        ValueError: for other shapes, numbers that are not positive, or inputs of another event shape.

    Jaderberg et al., Spatial Transformer Networks, arXiv:1506.02025.

    >>> net = SpatialTransformer((1, 20, 20), (1, 8, 8))
    >>> net.look(torch.zeros(5, 1, 20, 20), torch.zeros(4, 5, 3)).shape
    torch.Size([4, 5, 1, 8, 8])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        glimpse_shape: tuple[int, ...],
        size: float = 0.4,
        size_spread: float = 0.2,
        place_spread: float = 0.5,
    ) -> None:
        super().__init__()
        self.shape = positive_sizes("shape", shape, minimum=3)
        self.glimpse_shape = positive_sizes("glimpse_shape", glimpse_shape, minimum=3)
        sizes = len(self.shape), len(self.glimpse_shape)
        if sizes != (3, 3) or self.shape[0] != self.glimpse_shape[0] or len(set(self.glimpse_shape[1:])) != 1:
            raise ValueError(
                "a canvas is (channels, height, width), and its glimpses are square and of as many "
                f"channels, got shape={self.shape} and glimpse_shape={self.glimpse_shape}"
            )
        for name, value in (("size", size), ("size_spread", size_spread), ("place_spread", place_spread)):
            if not 0 < value < math.inf:
                raise ValueError(f"SpatialTransformer: {name} must be positive, got {value!r}")
        self.size, self.size_spread, self.place_spread = size, size_spread, place_spread

    def look(self, canvas: Tensor, where: Tensor) -> Tensor:
        """The glimpses, (*batch, *glimpse_shape), of a canvas at `where`."""
        check_event(canvas, self.shape)
        size, middle = self.geometry(where)
        side = _places(self.glimpse_shape[1], where)
        across, down = (centre.unsqueeze(-1) + size.unsqueeze(-1) * side for centre in middle)
        return _resampled(canvas, _weights(down, self.shape[1]), _weights(across, self.shape[2]))

    def place(self, glimpse: Tensor, where: Tensor) -> Tensor:
        """The canvas, (*batch, *shape), that is zero but for the glimpse at `where`."""
        check_event(glimpse, self.glimpse_shape)
        size, (x, y) = self.geometry(where)
        down, across = (
            (_places(side, where) - centre.unsqueeze(-1)) / size.unsqueeze(-1)
            for side, centre in zip(self.shape[1:], (y, x), strict=True)
        )
        side = self.glimpse_shape[1]
        return _resampled(glimpse, _weights(down, side), _weights(across, side))

    def geometry(self, where: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The size, and the middle across and down, (*batch,) each."""
        check_event(where, (3,))
        size = self.size * (self.size_spread * where[..., 0]).exp()
        return size, (self.place_spread * where[..., 1], self.place_spread * where[..., 2])

    def extra_repr(self) -> str:
        return f"shape={self.shape}, glimpse_shape={self.glimpse_shape}, size={self.size:g}"


def _places(side: int, like: Tensor) -> Tensor:
    """The middles of so many pixels, from -1 to 1 from edge to edge."""
    return (2 * torch.arange(side, dtype=like.dtype, device=like.device) + 1) / side - 1


def _weights(place: Tensor, side: int) -> Tensor:
    """(*batch, P, side): how much of each of `side` pixels is at the places, (*batch, P)."""
    pixel = ((place + 1) * side - 1) / 2
    away = pixel.unsqueeze(-1) - torch.arange(side, dtype=place.dtype, device=place.device)
    return (1 - away.abs()).clamp_min(0)


def _resampled(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(*batch, C, P, Q) of (*batch, C, H, W), with (*batch, P, H) and (*batch, Q, W)."""
    return rows.unsqueeze(-3) @ image.to(rows.dtype) @ columns.unsqueeze(-3).mT
