"""Plots: each takes a result, or the arrays in it, draws on Axes and returns them.

Nothing here trains, shows or saves: `plots.images(x).figure.savefig("x.png")` does. Every function takes
`ax=` to draw on Axes that exist; otherwise it makes a figure of a fitting size with `plt.subplots`.

>>> import matplotlib.pyplot as plt, torch
>>> from ppl_vae import plots
>>> ax = plots.images(torch.rand(12, 1, 8, 8), columns=6)
>>> ax.figure.savefig("images.png")  # doctest: +SKIP
>>> plt.close(ax.figure)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ppl_vae.queries import Draws, Traversal

_PIXELS = 32  # small images are enlarged to about this, so that the lines between them stay thin
_SMOOTHED_BELOW = 16  # pixels a side
_LINE = 2
_BOUNDS = ("bound", "elbo")


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
    return images(_means(draws), columns, ax)


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
    original, again = _pictures(x), _pictures(_means(reconstruction))
    if original.shape != again.shape:
        raise ValueError(
            f"x and its reconstruction have different shapes: {tuple(original.shape)} and "
            f"{tuple(again.shape)}; of several samples show one, draws.mean[0]"
        )
    return _grid(
        torch.stack([original[:columns], again[:columns]]), ax, row_labels=["data", "reconstruction"]
    )


def interpolation(draws: Draws | Tensor, ax: Axes | None = None) -> Axes:
    """The paths of `queries.interpolate`, (steps, n, C, H, W): a row for each of the n pairs of ends."""
    means = _means(draws)
    steps = len(means)
    pictures = _pictures(means.flatten(0, 1)).unflatten(0, means.shape[:2]).transpose(0, 1)
    labels = [f"{i / max(1, steps - 1):.2g}" for i in range(steps)]
    ax = _grid(pictures, ax, column_labels=labels)
    ax.set_xlabel("t")
    return ax


def traversal(draws: Traversal, datum: int = 0, ax: Axes | None = None) -> Axes:
    """One datum of `queries.traverse`: a row for each latent dimension, a column for each value."""
    means = _means(draws)[:, :, datum]
    pictures = _pictures(means.flatten(0, 1)).unflatten(0, means.shape[:2])
    ax = _grid(
        pictures,
        ax,
        row_labels=[f"{draws.site}[{dim}]" for dim in draws.dims],
        column_labels=[f"{position:.2g}" for position in draws.positions.tolist()],
    )
    ax.set_xlabel("value of the dimension")
    return ax


def training_curves(history: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The bounds in a run's history against the epoch (or the step), in nats per datum.

    Args:
        history: one row an epoch with columns such as `epoch`, `train_bound`, `valid_elbo`: every
            column whose name ends in `bound` or `elbo` is drawn, `train_` and `valid_` in a colour each.

    Raises:
        ValueError: when there is no such column; the message lists those that there are.
    """
    columns = [name for name in map(str, history.columns) if name.endswith(_BOUNDS)]
    for part in ("train", "valid"):
        bound, elbo = f"{part}_bound", f"{part}_elbo"
        if {bound, elbo} <= set(columns) and np.allclose(history[bound], history[elbo], equal_nan=True):
            columns.remove(bound)  # the same curve twice
    if not columns:
        raise ValueError(f"no column ends in 'bound' or 'elbo'; the columns are {list(history.columns)}")
    x_name = next((name for name in ("epoch", "step") if name in history), None)
    x = pd.Series(history.index if x_name is None else history[x_name].to_numpy())
    ax = _axes(ax, 6.0, 4.0)
    settled: list[float] = []
    for name in columns:
        y = pd.Series(history[name].to_numpy(dtype=float))
        known = np.isfinite(y)
        part = name.split("_")[0]
        colour = {"train": "C0", "valid": "C1"}.get(part, "C2")
        style = "-" if name.endswith("elbo") else "--"
        marker = "o" if known.sum() < 15 else None
        label = name.replace("_", " ").replace("elbo", "ELBO")
        ax.plot(x[known], y[known], style, color=colour, marker=marker, markersize=3, label=label)
        settled += y[known & (x >= x.min() + 0.1 * (x.max() - x.min()))].tolist()
    if len(history) >= 10 and settled and max(settled) > min(settled):
        # the first epochs may be far below the rest, or far above in a KL warm-up: the rest would look flat
        span = max(settled) - min(settled)
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, min(settled) - 0.15 * span), min(high, max(settled) + 0.15 * span))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.set_xlabel(x_name or "row")
    ax.set_ylabel("nats per datum")
    ax.grid(alpha=0.3)
    ax.legend(loc="best")
    return ax


def latent_map(
    mean: Draws | Tensor | np.ndarray,
    labels: Tensor | np.ndarray | Sequence[Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The guide's means in the plane, coloured by label; the first two principal axes when d > 2.

    Args:
        mean: (N, d) with d >= 2, or what `queries.encode` gave.
        labels: (N,): classes (whole numbers or strings, a legend) or real numbers (a colour bar).

    Raises:
        ValueError: for a mean that is not (N, d >= 2), labels that are not (N,).
    """
    z = _array(mean.mean if isinstance(mean, Draws) else mean).astype(float)
    if z.ndim != 2 or z.shape[1] < 2:
        raise ValueError(f"mean must be (N, d) with d >= 2, got shape {z.shape}")
    names = ["z[0]", "z[1]"]
    if z.shape[1] > 2:
        centred = z - z.mean(0)
        left, singular, _ = np.linalg.svd(centred, full_matrices=False)
        z = left[:, :2] * singular[:2]
        share = singular[:2] ** 2 / max(float((singular**2).sum()), 1e-300)
        names = [f"principal axis {i + 1} ({share[i]:.0%} of the variance)" for i in range(2)]
    groups = None if labels is None else _array(labels)
    if groups is not None and groups.shape != (len(z),):
        raise ValueError(f"labels must be ({len(z)},), one for each datum, got shape {groups.shape}")
    ax = _axes(ax, 5.8, 5.0)
    style: dict[str, Any] = {"s": max(3.0, min(16.0, 12000 / len(z))), "alpha": 0.8, "linewidths": 0}
    if groups is None:
        ax.scatter(*z.T, **style)
    else:
        classes = np.unique(groups)
        if len(classes) <= 20 and not np.issubdtype(groups.dtype, np.floating):
            colours = plt.get_cmap("tab10" if len(classes) <= 10 else "tab20")
            for i, label in enumerate(classes):
                ax.scatter(*z[groups == label].T, color=colours(i), label=str(label), **style)
            ax.legend(
                loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, markerscale=2, handletextpad=0.1
            )
        else:
            points = ax.scatter(z[:, 0], z[:, 1], c=groups.astype(float), cmap="viridis", **style)
            ax.figure.colorbar(points, ax=ax, label="label")
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    # the same span on both axes: aspect="equal" would move the limits after the layout was made
    middle, span = (z.max(0) + z.min(0)) / 2, 1.06 * float(np.ptp(z, axis=0).max()) or 1.0
    ax.set_xlim(middle[0] - span / 2, middle[0] + span / 2)
    ax.set_ylim(middle[1] - span / 2, middle[1] + span / 2)
    ax.set_box_aspect(1)
    return ax


def k_hat(k_hat: Tensor | np.ndarray | Any, ax: Axes | None = None) -> Axes:
    """The Pareto k-hat of each datum's importance weights, with the usual limits 0.5 and 0.7.

    Below 0.5 the estimate of log p(x) has finite variance, above 0.7 it cannot be trusted.

    Args:
        k_hat: (N,), or a result that has them as `k_hat`.

    Vehtari, Simpson, Gelman, Yao and Gabry, Pareto Smoothed Importance Sampling, arXiv:1507.02646.
    """
    values = _array(getattr(k_hat, "k_hat", k_hat)).astype(float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"k_hat must be (N,), one for each datum, got shape {values.shape}")
    ax = _axes(ax, 6.4, 3.6)
    size = max(2.0, min(14.0, 6000 / len(values)))
    bands = (
        ("C0", "up to 0.5", values <= 0.5),
        ("C1", "0.5 to 0.7", (values > 0.5) & (values <= 0.7)),
        ("C3", "above 0.7", ~(values <= 0.7)),  # nan is not good either
    )
    for colour, name, chosen in bands:
        label = f"{name}: {chosen.mean():.1%}"
        ax.scatter(np.flatnonzero(chosen), values[chosen], s=size, color=colour, linewidths=0, label=label)
    for limit, line in ((0.5, ":"), (0.7, "--")):
        ax.axhline(limit, color="0.3", linestyle=line, linewidth=1)
    ax.set_xlim(-0.02 * len(values) - 0.5, 1.02 * len(values) - 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.set_xlabel("datum")
    ax.set_ylabel(r"Pareto $\hat{k}$")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, handletextpad=0.1)
    return ax


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    if ax is not None:
        return ax
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _means(draws: Draws | Tensor | np.ndarray) -> Tensor:
    return draws.mean if isinstance(draws, Draws) else torch.as_tensor(draws)


def _pictures(values: Tensor | np.ndarray) -> Tensor:
    """(N, C, H, W) on the CPU, between 0 and 1."""
    tensor = torch.as_tensor(values).detach().cpu().to(torch.float32)
    tensor = tensor.unsqueeze(1) if tensor.dim() == 3 else tensor
    if tensor.dim() != 4 or tensor.shape[1] not in (1, 3) or not len(tensor):
        shape = tuple(torch.as_tensor(values).shape)
        raise ValueError(
            f"images must be (N, H, W) or (N, C, H, W) with C = 1 or 3, got shape {shape}: x.reshape(-1, 1, 8, 8) makes images of 64 numbers each"
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
    ax = _axes(ax, max(1.5, inches * columns + labels), max(1.0, tall))
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
