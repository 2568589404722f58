"""Grids of images: data, samples, reconstructions, and walks in latent space."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from ppl_vae.plots.common import axes_for, means_of, number
from ppl_vae.queries import Draws, Traversal

_PIXELS = 32  # small images are enlarged to about this, so that the lines between them stay thin
_SMOOTHED_BELOW = 16  # pixels a side
_LINE = 2


def images(images: Tensor | np.ndarray, columns: int | None = None, ax: Axes | None = None) -> Axes:
    """A grid of images.

    Args:
        images: (N, C, H, W) with C = 1 or 3, or (N, H, W); shown from black at 0 to white at 1, or
            from the least to the greatest value when they go far beyond.
        columns: how many in a row; by default as many as make the grid about square.
    """
    pictures = _pictures(images)
    count = len(pictures)
    columns = min(count, math.ceil(math.sqrt(count)) if columns is None else columns)
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    rows = math.ceil(count / columns)
    blank = pictures.new_full((rows * columns - count, *pictures.shape[1:]), float("nan"))
    return _grid(torch.cat([pictures, blank]).unflatten(0, (rows, columns)), ax)


def samples(draws: Draws | Tensor, columns: int | None = None, ax: Axes | None = None) -> Axes:
    """A grid of prior samples: the likelihood's means of `queries.sample`, or a tensor of images."""
    return images(means_of(draws), columns, ax)


def reconstructions(
    x: Tensor, reconstruction: Draws | Tensor, columns: int = 10, ax: Axes | None = None
) -> Axes:
    """Originals in the upper row, the means of their reconstructions below them.

    Args:
        x: (n, C, H, W) the data.
        reconstruction: what `queries.reconstruct(pair, x)` gave, or images of x's shape.
        columns: how many to show, the first ones.

    Raises:
        ValueError: when the two have different shapes.
    """
    original, again = _pictures(x), _pictures(means_of(reconstruction))
    if original.shape != again.shape:
        raise ValueError(
            f"x and its reconstruction have different shapes: {tuple(original.shape)} and "
            f"{tuple(again.shape)}; of several samples show one, draws.mean[0]"
        )
    return _grid(
        torch.stack([original[:columns], again[:columns]]), ax, row_labels=["data", "reconstruction"]
    )


def by_label(
    draws: Draws | Tensor, labels: Sequence[object], columns: int = 10, ax: Axes | None = None
) -> Axes:
    """Samples of several classes: a row for each, its label beside it.

    Args:
        draws: (len(labels) * columns, C, H, W), class after class.
        labels: of the rows.
        columns: how many of each.

    Raises:
        ValueError: for another number of images.
    """
    pictures = _pictures(means_of(draws))
    if len(pictures) != len(labels) * columns:
        raise ValueError(
            f"{len(labels)} labels with {columns} columns need {len(labels) * columns} images, got "
            f"{len(pictures)}"
        )
    ax = _grid(pictures.unflatten(0, (len(labels), columns)), ax, row_labels=[str(label) for label in labels])
    ax.set_ylabel("label")
    return ax


def interpolation(draws: Draws | Tensor, ax: Axes | None = None) -> Axes:
    """The paths of `queries.interpolate`, (steps, n, C, H, W): a row for each of the n pairs of ends."""
    means = means_of(draws)
    steps = len(means)
    pictures = _pictures(means.flatten(0, 1)).unflatten(0, means.shape[:2]).transpose(0, 1)
    labels = [f"{i / max(1, steps - 1):.2g}" for i in range(steps)]
    ax = _grid(pictures, ax, column_labels=labels)
    ax.set_xlabel("t")
    return ax


def traversal(draws: Traversal, datum: int = 0, ax: Axes | None = None) -> Axes:
    """One datum of `queries.traverse`: a row for each latent dimension, a column for each value."""
    means = means_of(draws)[:, :, datum]
    largest = float(draws.positions.abs().max())
    pictures = _pictures(means.flatten(0, 1)).unflatten(0, means.shape[:2])
    ax = _grid(
        pictures,
        ax,
        row_labels=[f"{draws.site}[{dim}]" for dim in draws.dims],
        column_labels=[number(position, largest) for position in draws.positions.tolist()],
    )
    ax.set_xlabel("value of the dimension")
    return ax


def _pictures(values: Tensor | np.ndarray) -> Tensor:
    """(N, C, H, W) on the CPU, between 0 and 1."""
    tensor = torch.as_tensor(values).detach().cpu().to(torch.float32)
    tensor = tensor.unsqueeze(1) if tensor.dim() == 3 else tensor
    if tensor.dim() != 4 or tensor.shape[1] not in (1, 3) or not len(tensor):
        shape = tuple(torch.as_tensor(values).shape)
        raise ValueError(
            f"images must be (N, H, W) or (N, C, H, W) with C = 1 or 3, got shape {shape}: x.reshape(-1, 1, "
            "8, 8) makes images of 64 numbers each"
        )
    low, high = tensor[tensor.isfinite()].aminmax() if bool(tensor.isfinite().any()) else (0.0, 1.0)
    if low < -0.5 or high > 1.5:
        tensor = (tensor - low) / (high - low)
    return tensor.clamp(0, 1)


def _grid(
    pictures: Tensor,
    ax: Axes | None,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> Axes:
    """Draw (rows, columns, C, H, W) as one image with white lines between; tiny pictures are smoothed."""
    pictures = _enlarged(pictures, max(1, round(_PIXELS / max(pictures.shape[-2:]))))
    rows, columns, channels, height, width = pictures.shape
    pictures = torch.nn.functional.pad(pictures, (0, _LINE, 0, _LINE), value=1.0)
    canvas = pictures.permute(0, 3, 1, 4, 2).reshape(
        rows * (height + _LINE), columns * (width + _LINE), channels
    )
    canvas = canvas[:-_LINE, :-_LINE].nan_to_num(nan=1.0)
    inches = min(0.75, 12.0 / columns, 14.0 / rows)
    labels = 0.8 if row_labels else 0.0
    tall = inches * rows * height / width + (0.55 if column_labels else 0.1)
    ax = axes_for(ax, max(1.5, inches * columns + labels), max(1.0, tall))
    ax.imshow(canvas.expand(-1, -1, 3).numpy(), vmin=0, vmax=1, interpolation="nearest")
    ax.set_xticks([i * (width + _LINE) + width / 2 for i in range(columns)] if column_labels else [])
    ax.set_yticks([i * (height + _LINE) + height / 2 for i in range(rows)] if row_labels else [])
    if column_labels:
        ax.set_xticklabels(column_labels)
    if row_labels:
        ax.set_yticklabels(row_labels)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def _enlarged(pictures: Tensor, times: int) -> Tensor:
    if max(pictures.shape[-2:]) >= _SMOOTHED_BELOW:
        return pictures.repeat_interleave(times, -2).repeat_interleave(times, -1)
    # at 8 x 8 one sees squares before one sees a digit
    flat = pictures.flatten(0, 1).nan_to_num(nan=1.0)
    large = torch.nn.functional.interpolate(flat, scale_factor=times, mode="bicubic", align_corners=False)
    return large.clamp(0, 1).unflatten(0, pictures.shape[:2])
