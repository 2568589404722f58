"""`sprites`: white shapes on black, drawn from five factors that are known, after dSprites."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.array_checks import rows_per_chunk
from ppl_vae.data.dataset import Loaded, Part
from ppl_vae.data.rows import ResidentRows

SHAPES = ("square", "ellipse", "heart")
FACTORS = ("shape", "scale", "orientation", "x", "y")
SCALES, ORIENTATIONS, POSITIONS = 6, 40, 32  # levels, those of dSprites
SIDE = 32
LARGEST = 0.19  # half the side of the largest square, in sides of the image: it stays inside


class Levels(NamedTuple):
    """The value of each level of a factor, a float32 tensor a factor, in the order of `FACTORS`."""

    shape: Tensor
    scale: Tensor
    orientation: Tensor
    x: Tensor
    y: Tensor


def levels() -> Levels:
    """The grid of factors: shape 0, 1, 2; scale 0.5 to 1; orientation in [0, 2 pi); x and y in [0, 1]."""
    return Levels(
        torch.arange(float(len(SHAPES))),
        torch.linspace(0.5, 1.0, SCALES),
        torch.arange(float(ORIENTATIONS)) * (2 * math.pi / ORIENTATIONS),
        torch.linspace(0.0, 1.0, POSITIONS),
        torch.linspace(0.0, 1.0, POSITIONS),
    )


def draw(num_data: int, rng: np.random.Generator, size: tuple[int, int] | None) -> Loaded:
    """`num_data` images whose factors are drawn independently, each uniform on its levels."""
    grid = levels()
    columns = [values[torch.from_numpy(rng.integers(len(values), size=num_data))] for values in grid]
    factors = torch.stack(columns, 1)
    height, width = size or (SIDE, SIDE)
    chunks = factors.split(rows_per_chunk((1, height, width)))
    images = torch.cat([render(chunk, height, width) for chunk in chunks])
    part = Part(ResidentRows(images), factors[:, 0].long(), factors)
    return Loaded(part, divisor=255.0, binarise="dynamic", factor_names=FACTORS)


def render(factors: Tensor, height: int = SIDE, width: int = SIDE) -> Tensor:
    r"""Images of given factors, uint8 `(N, 1, height, width)`: 255 inside the shape, 0 outside.

    The grey value of a pixel is the share of it that the shape covers, taken from the signed distance
    of its centre to the outline: ``clamp(1/2 - distance in pixels, 0, 1)``.

    Args:
        factors: `(N, 5)` in the order of `FACTORS`; any real values, on the grid of `levels` or off it.

    >>> import torch
    >>> from ppl_vae.data import sprites
    >>> sprites.render(torch.tensor([[0.0, 1.0, 0.0, 0.5, 0.5]]), 8, 8)[0, 0, 4]
    tensor([  0,   0, 133, 255, 255, 133,   0,   0], dtype=torch.uint8)
    """
    shape, scale, orientation, x, y = (column[:, None, None] for column in factors.float().unbind(1))
    radius = LARGEST * scale
    margin = LARGEST * math.sqrt(2)  # a turned square just touches the border
    down = (torch.arange(height) + 0.5)[:, None] / height - (margin + (1 - 2 * margin) * y)
    right = (torch.arange(width) + 0.5) / width - (margin + (1 - 2 * margin) * x)
    cos, sin = orientation.cos(), orientation.sin()
    along, across = (right * cos + down * sin) / radius, (down * cos - right * sin) / radius
    distance = torch.empty_like(along)
    for kind, outline in enumerate((_square, _ellipse, _heart)):
        chosen = (shape == kind).flatten().nonzero().squeeze(1)
        distance[chosen] = outline(along[chosen], across[chosen])
    pixel = 1.0 / min(height, width)
    covered = (0.5 - distance * radius / pixel).clamp(0, 1)
    return covered.mul(255).round().to(torch.uint8)[:, None]


# Signed distances to outlines in units of the radius, negative inside.


def _square(u: Tensor, v: Tensor) -> Tensor:
    du, dv = u.abs() - 1, v.abs() - 1
    return torch.hypot(du.clamp_min(0), dv.clamp_min(0)) + torch.maximum(du, dv).clamp_max(0)


def _ellipse(u: Tensor, v: Tensor) -> Tensor:
    """Half axes 1.2 and 0.7; to first order in the distance, which is all that a pixel's edge sees."""
    a, b = 1.2, 0.7
    first = torch.hypot(u / a, v / b)
    second = torch.hypot(u / a**2, v / b**2)
    return first * (first - 1) / second.clamp_min(1e-6)


def _heart(u: Tensor, v: Tensor) -> Tensor:
    """A square on its corner with a half disc on each of its upper sides; exact."""
    size = 1.9
    p, q = (u / size).abs(), 0.55 - v / size  # upright where the orientation is zero
    outside = torch.hypot(p - 0.25, q - 0.75) - math.sqrt(2) / 4
    diagonal = 0.5 * (p + q).clamp_min(0)
    inner = torch.minimum(torch.hypot(p, q - 1), torch.hypot(p - diagonal, q - diagonal))
    return size * torch.where(p + q > 1, outside, inner * (p - q).sign())
