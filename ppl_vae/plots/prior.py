"""The aggregate posterior against the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from ppl_vae.evaluate.prior_holes import Holes
from ppl_vae.plots.common import FEW, as_array, axes_for, class_bar, classes_of

_CODES = 2000  # more of them hide the rest
_DRAWS = 500
_PALE = LinearSegmentedColormap.from_list("pale", plt.get_cmap("Blues")(np.linspace(0.08, 0.55, 64)))
_MASS = (0.99, 0.9, 0.7, 0.5, 0.3, 0.1)  # of the prior, within its contours


def holes(
    result: Holes,
    labels: Tensor | np.ndarray | Sequence[Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The prior's density as a landscape, the codes of data as a cloud on it, and prior draws that miss it.

    The contours hold 10 to 99 % of the prior. The line is the edge of the region that holds all codes
    but `result.level` of them; crosses are the draws of the prior outside it, of the first 500.

    Args:
        result: what `evaluate.holes(pair, data)` gave.
        labels: (N,), the classes of the data, which colour the codes.

    Raises:
        ValueError: for labels that are not (N,).
    """
    groups = None if labels is None else as_array(labels)
    if groups is not None and groups.shape != (result.num_data,):
        raise ValueError(f"labels must be ({result.num_data},), one for each datum, got shape {groups.shape}")
    ax = axes_for(ax, 6.6, 5.2)
    x, y = (as_array(each) for each in result.grid)
    density = np.exp(as_array(result.log_prior))
    levels = [*_levels(density), float(density.max()) * 1.001]
    ax.contourf(x, y, density.T, levels=levels, cmap=_PALE, zorder=0)
    codes = as_array(result.codes)[:: max(1, len(result.codes) // _CODES)]
    style: dict[str, Any] = {"s": 5, "alpha": 0.7, "linewidths": 0, "zorder": 2}
    handles: list[Any] = [Patch(color=_PALE(0.8), label="prior p(z)")]
    if groups is None:
        ax.scatter(*codes.T, color="0.25", **style)
        handles.append(_dot("0.25", "codes of data"))
    else:
        shown = groups[as_array(result.datum)[:: max(1, len(result.codes) // _CODES)]]
        found = classes_of(groups)
        if found is None:
            drawn = ax.scatter(codes[:, 0], codes[:, 1], c=shown, cmap="viridis", **style)
            ax.figure.colorbar(drawn, ax=ax, label="label", location="left")
        else:
            classes, colours = found
            for i, label in enumerate(classes):
                ax.scatter(*codes[shown == label].T, color=colours(i), **style)
            if len(classes) <= FEW:
                handles += [_dot(colours(i), str(label)) for i, label in enumerate(classes)]
            else:
                class_bar(ax, classes, colours)
    aggregate = as_array(result.log_aggregate)
    if aggregate.min() < result.threshold < aggregate.max():
        ax.contour(
            x,
            y,
            aggregate.T,
            levels=[result.threshold],
            colors="0.2",
            linewidths=0.8,
            linestyles="solid",
            zorder=3,
        )
        edge = f"holds {1 - result.level:.0%} of codes"
        handles.append(Line2D([], [], color="0.2", linewidth=0.8, label=edge))
    missed = as_array(result.draws)[:_DRAWS][as_array(result.in_hole)[:_DRAWS]]
    ax.scatter(missed[:, 0], missed[:, 1], marker="x", s=22, color="C3", linewidths=1.2, zorder=4)
    cross: dict[str, Any] = {"linestyle": "", "marker": "x", "color": "C3", "markersize": 5}
    handles.append(Line2D([], [], label="prior draw in a hole", **cross))
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    ax.set_xlabel(f"{result.site}[{result.dims[0]}]")
    ax.set_ylabel(f"{result.site}[{result.dims[1]}]")
    ax.set_title(f"{result.share:.1%} of the prior's draws fall in holes")
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return ax


def _levels(density: np.ndarray) -> list[float]:
    """The densities whose contours hold the masses, rising."""
    ordered = np.sort(density.ravel())[::-1]
    mass = np.cumsum(ordered) / ordered.sum()
    places = np.searchsorted(mass, _MASS).clip(max=len(ordered) - 1)
    return sorted(set(ordered[places].tolist()))


def _dot(colour: Any, label: str) -> Line2D:
    return Line2D([], [], linestyle="", marker="o", markersize=4, color=colour, label=label)
