"""The shapes of arrays in files, brought to `(N, D)` or `(N, C, H, W)`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ppl_vae.data.array_checks import check_shape, rows_per_chunk
from ppl_vae.data.data_error import DataError

CHANNELS = (1, 3)


def as_events(array: NDArray, what: str) -> NDArray:
    """A view of `array` as `(N, D)` vectors or `(N, C, H, W)` images.

    `(N, H, W)` gains a channel; `(N, H, W, C)` with C in {1, 3} is turned to channels first, unless its
    second dimension already looks like channels. What `are_lengths` says are sequences do not come here.

    Raises:
        DataError: another number of dimensions, or no rows.
    """
    check_shape(array.shape, what)
    if array.ndim == 2:
        return array
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4:
        last = array.shape[3] in CHANNELS and array.shape[1] not in CHANNELS
        return array.transpose(0, 3, 1, 2) if last else array
    raise DataError(
        f"{what}: shape {array.shape} has {array.ndim} dimensions; a file holds (N, D), (N, H, W), "
        f"(N, C, H, W) or (N, H, W, C): reshape it, or build a Split from your tensor"
    )


def are_lengths(length: NDArray | None, shape: tuple[int, ...]) -> bool:
    """Whether these may be how many of the T steps of each sequence of x, of shape (N, T, F), are there."""
    if length is None or length.dtype.kind not in "ui" or len(shape) != 3 or length.shape != shape[:1]:
        return False
    return bool(len(length) and length.min() >= 0 and length.max() <= shape[1])


def height_and_width(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """`image_size` as (height, width).

    Raises:
        DataError: not one or two positive whole numbers.
    """
    size = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(size) != 2 or not all(
        isinstance(side, int) and type(side) is not bool and side > 0 for side in size
    ):
        raise DataError(f"image_size={image_size!r}: give a number of pixels or (height, width)")
    return size[0], size[1]


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 `images` `(N, C, H, W)` at height and width `size`, bilinear with antialiasing."""
    if tuple(images.shape[2:]) == size:
        return images
    chunks = images.split(rows_per_chunk(tuple(images.shape[1:])))
    resized = [
        F.interpolate(chunk.float(), size, mode="bilinear", antialias=True, align_corners=False)
        for chunk in chunks
    ]
    return torch.cat([chunk.round().clamp(0, 255).to(torch.uint8) for chunk in resized])
