"""Pictures of data that are vectors: their cloud, reconstructions, and walks in latent space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from ppl_vae.plots.common import as_array, axes_for, means_of, number
from ppl_vae.queries import Draws, Traversal

_DATA, _MODEL = "0.45", "C1"
MOST_NAMES = 40
"""Columns whose names an axis can hold."""


def cloud(
    x: Tensor | np.ndarray,
    samples: Draws | Tensor | np.ndarray,
    ax: Axes | None = None,
    names: Sequence[str] = (),
) -> Axes:
    """Data and as many samples of the model, in the plane: the data's first two principal axes when D > 2.

    Samples, not means: where the model is right, nobody can tell the two clouds apart. For D = 1 two
    histograms.

    Args:
        x: (N, D) the data.
        samples: what `queries.sample` gave, or (M, D).
        names: of the columns, `dataset.schema.names`.

    Raises:
        ValueError: when the two have different sizes D; when no two rows of x are without a gap.
    """
    data, drawn = _rows(x, "x"), _rows(samples.value if isinstance(samples, Draws) else samples, "samples")
    data = _complete(data)
    if data.shape[1] != drawn.shape[1]:
        raise ValueError(f"x and samples have different sizes: {data.shape[1]} and {drawn.shape[1]}")
    ax = axes_for(ax, 5.4, 4.6)
    if data.shape[1] == 1:
        bins = np.histogram_bin_edges(np.concatenate([data, drawn]), bins=40).tolist()
        ax.hist(data[:, 0], bins, density=True, color=_DATA, alpha=0.6, label="data")
        ax.hist(
            drawn[:, 0], bins, density=True, color=_MODEL, histtype="step", linewidth=1.8, label="samples"
        )
        ax.set_xlabel(_name(names, 0, "x"))
        ax.set_ylabel("density")
    else:
        places, axes = _plane(data, names)
        for rows, colour, label in ((data, _DATA, "data"), (drawn, _MODEL, "samples")):
            points = places(rows)
            size = max(3.0, min(16.0, 6000 / len(points)))
            ax.scatter(points[:, 0], points[:, 1], s=size, color=colour, alpha=0.6, linewidths=0, label=label)
        ax.set_xlabel(axes[0])
        ax.set_ylabel(axes[1])
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, markerscale=2)
    return ax


def vector_reconstructions(
    x: Tensor | np.ndarray,
    reconstruction: Draws | Tensor | np.ndarray,
    ax: Axes | None = None,
    names: Sequence[str] = (),
) -> Axes:
    """Data beside the means of their reconstructions.

    Two heat maps, a row a datum and a column a dimension, in the same colours; for D = 2 arrows from each
    datum to its reconstruction; for D = 1 one against the other.

    Args:
        x: (n, D) the data.
        reconstruction: what `queries.reconstruct` gave, or (n, D).
        names: of the columns, `dataset.schema.names`.

    Raises:
        ValueError: when the two have different shapes.
    """
    data, again = _rows(x, "x"), _rows(means_of(reconstruction), "reconstruction")
    if data.shape != again.shape:
        raise ValueError(f"x and its reconstruction have different shapes: {data.shape} and {again.shape}")
    size = data.shape[1]
    if size > 2:
        gap = np.full((len(data), max(1, size // 12)), np.nan)
        ax = axes_for(
            ax, float(np.clip(0.24 * 2 * size, 4.5, 11.0)), float(np.clip(0.2 * len(data), 2.5, 8.0))
        )
        _heat(ax, np.concatenate([data, gap, again], 1), like=data)
        middles = [(size - 1) / 2, size + gap.shape[1] + (size - 1) / 2]
        ax.set_xticks(middles, [f"data, {size} dimensions", "reconstruction"])
        if 0 < len(names) <= MOST_NAMES:
            ax.tick_params(axis="x", pad=4)
            starts = [0, size + gap.shape[1]]
            above = ax.secondary_xaxis("top")
            above.set_xticks([start + i for start in starts for i in range(size)], [*names] * 2, rotation=90)
        ax.set_yticks([])
        ax.set_ylabel("datum")
        return ax
    ax = axes_for(ax, 5.0, 4.6)
    if size == 1:
        ends = [min(np.nanmin(data), np.nanmin(again)), max(np.nanmax(data), np.nanmax(again))]
        ax.plot(ends, ends, color="0.7", linewidth=1)
        ax.scatter(data[:, 0], again[:, 0], s=14, color=_MODEL, linewidths=0)
        ax.set_xlabel(f"{names[0]}, data" if names else "data")
        ax.set_ylabel(f"{names[0]}, reconstruction" if names else "reconstruction")
        return ax
    for start, end in zip(data, again, strict=True):
        ax.plot(*np.stack([start, end]).T, color="0.75", linewidth=0.8, zorder=1)
    ax.scatter(data[:, 0], data[:, 1], s=14, color=_DATA, linewidths=0, label="data", zorder=2)
    ax.scatter(again[:, 0], again[:, 1], s=14, color=_MODEL, linewidths=0, label="reconstruction", zorder=3)
    ax.set_xlabel(_name(names, 0, "x[0]"))
    ax.set_ylabel(_name(names, 1, "x[1]"))
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def vector_traversal(
    draws: Traversal, datum: int = 0, ax: Axes | None = None, names: Sequence[str] = ()
) -> Axes:
    """One datum of `queries.traverse`: the means of the data while one latent dimension at a time moves.

    A heat map with a block for each latent dimension, a row for each value and a column for each dimension of
    the data; for D = 2 a path in the plane for each latent dimension, for D = 1 a curve.

    Args:
        names: of the columns, `dataset.schema.names`.
    """
    means = as_array(means_of(draws)[:, :, datum]).astype(float)
    means = means.reshape(*means.shape[:2], -1)
    positions, size = as_array(draws.positions).astype(float), means.shape[-1]
    dims = [f"{draws.site}[{dim}]" for dim in draws.dims]
    if size <= 2:
        ax = axes_for(ax, 5.6, 4.4)
        for name, path in zip(dims, means, strict=True):
            along = (positions, path[:, 0]) if size == 1 else path.T
            (line,) = ax.plot(*along, marker=".", linewidth=1.2, label=name)
            ax.plot(along[0][-1:], along[1][-1:], marker="o", markersize=6, color=line.get_color())
        ax.set_xlabel("value of the dimension" if size == 1 else _name(names, 0, "x[0]"))
        ax.set_ylabel(f"mean of {_name(names, 0, 'x') if size == 1 else _name(names, 1, 'x[1]')}")
        handles, _ = ax.get_legend_handles_labels()
        largest = number(float(positions.max()), float(np.abs(positions).max()))
        handles.append(Line2D([], [], linestyle="", marker="o", color="0.5", label=f"at {largest}"))
        ax.legend(handles=handles, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return ax
    blank = np.full((len(means), 1, size), np.nan)
    rows = np.concatenate([means, blank], 1).reshape(-1, size)[:-1]
    steps = len(positions)
    ax = axes_for(
        ax, float(np.clip(0.3 * size + 1.6, 4.0, 10.0)), float(np.clip(0.14 * len(rows), 3.2, 10.0))
    )
    _heat(ax, rows)
    ax.set_yticks([i * (steps + 1) + (steps - 1) / 2 for i in range(len(dims))], dims)
    low, high = (
        number(float(each), float(np.abs(positions).max())) for each in (positions[0], positions[-1])
    )
    ax.set_ylabel(f"latent dimension, from {low} (top) to {high}")
    ax.set_xlabel("dimension of x")
    if 0 < len(names) <= MOST_NAMES:
        ax.set_xticks(range(size), names, rotation=90)
        ax.set_xlabel("")
    return ax


def _heat(ax: Axes, values: np.ndarray, like: np.ndarray | None = None) -> None:
    """Rows of numbers in colours: around zero where there are both signs, else from the least to the most.

    Args:
        like: rows whose span the colours have, so that a stray value elsewhere does not pale all others.
    """
    spanned = values if like is None or np.isnan(like).all() else like
    low, high = float(np.nanmin(spanned)), float(np.nanmax(spanned))
    style: dict[str, Any] = {"cmap": "viridis", "vmin": low, "vmax": high}
    if low < 0 < high:
        style = {"cmap": "RdBu_r", "vmin": -max(-low, high), "vmax": max(-low, high)}
    image = ax.imshow(np.ma.masked_invalid(values), aspect="auto", interpolation="nearest", **style)
    beyond = bool((values < low).any() or (values > high).any())
    ax.figure.colorbar(image, ax=ax, pad=0.02, extend="both" if beyond else "neither")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _complete(rows: np.ndarray) -> np.ndarray:
    """The rows without a gap."""
    complete = rows[~np.isnan(rows).any(1)]
    if len(complete) < min(2, len(rows)):
        raise ValueError(
            f"{len(complete)} of {len(rows)} rows have no gap, too few for a cloud: give rows whose gaps are "
            "filled in, by the means of pv.reconstruct for instance"
        )
    return complete


def _name(names: Sequence[str], column: int, otherwise: str) -> str:
    return names[column] if names else otherwise


def _plane(data: np.ndarray, given: Sequence[str] = ()) -> tuple[Any, list[str]]:
    """A map from (n, D) to the plane, and the axes' names: the data's own,
    or their first two principal axes.
    """
    if data.shape[1] == 2:
        return (lambda rows: rows), [_name(given, column, f"x[{column}]") for column in range(2)]
    mean = data.mean(0)
    _, singular, axes = np.linalg.svd(data - mean, full_matrices=False)
    axes = np.concatenate([axes, np.zeros((max(0, 2 - len(axes)), data.shape[1]))])[:2]  # of a single datum
    share = np.append(singular, 0.0)[:2] ** 2 / max(float((singular**2).sum()), 1e-300)
    names = [f"the data's principal axis {i + 1} ({share[i]:.0%} of the variance)" for i in range(2)]
    return (lambda rows: (rows - mean) @ axes.T), names


def _rows(values: Any, what: str) -> np.ndarray:
    rows = as_array(values).astype(float)
    if rows.ndim < 2 or not rows.size:
        raise ValueError(f"{what} must be (N, D), got shape {rows.shape}")
    return rows.reshape(len(rows), -1)
