"""What gzip, bz2, lzma and PNG make of the same data."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_MOST_BYTES = 2**27
"""More than this takes minutes, and is left out."""


def sizes(data: Sequence[Tensor]) -> dict[str, int]:
    """Bytes by coder, of all data as one file; none where they are too large.

    Each coder gets the numbers of the values that occur, as whole bytes, and two values packed as bits too:
    the smaller counts. PNG gets all images as tiles of one picture.

    Args:
        data: (N, *event) of each observed site.
    """
    if sum(each.numel() for each in data) > _MOST_BYTES:
        return {}
    columns = [_numbered(each) for each in data]
    whole = b"".join(_bytes(symbols, size) for symbols, size in columns)
    forms = [whole]
    if all(size == 2 for _, size in columns):
        packed = [np.packbits(symbols.astype(np.uint8), axis=None) for symbols, _ in columns]
        forms.append(b"".join(each.tobytes() for each in packed))
    found = {
        "gzip": min(len(gzip.compress(each, 9)) for each in forms),
        "bz2": min(len(bz2.compress(each, 9)) for each in forms),
        "lzma": min(len(lzma.compress(each, preset=9)) for each in forms),
    }
    if len(data) == 1 and (image := tuple(data[0].shape[1:])) and _is_image(image) and columns[0][1] <= 256:
        found["PNG"] = _png(*columns[0], image)
    return found


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3))


def _numbered(x: Tensor) -> tuple[np.ndarray, int]:
    """The numbers of the values that occur, and how many do; NaN is one of them."""
    filled = x.double()
    filled = torch.where(filled.isnan(), filled.nan_to_num(0.0).min() - 1, filled)
    values, numbers = filled.unique(return_inverse=True)
    return numbers.numpy(), max(2, len(values))


def _bytes(symbols: np.ndarray, size: int) -> bytes:
    return symbols.astype(np.min_scalar_type(size - 1)).tobytes()


def _png(symbols: np.ndarray, size: int, image: tuple[int, ...]) -> int:
    """All images as the tiles of one picture."""
    from PIL import Image

    channels, height, width = image if len(image) == 3 else (1, *image)
    across = math.isqrt(len(symbols) - 1) + 1
    down = -(-len(symbols) // across)
    tiles = np.zeros((down * across, channels, height, width), dtype=np.uint8)
    tiles[: len(symbols)] = symbols.reshape(-1, channels, height, width) * (255 if size == 2 else 1)
    grid = tiles.reshape(down, across, channels, height, width).transpose(0, 3, 1, 4, 2)
    pixels = grid.reshape(down * height, across * width, channels)
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    if size == 2 and channels == 1:
        picture = picture.convert("1")  # one bit a pixel
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return len(out.getvalue())
