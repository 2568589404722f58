"""Whether the model is the data's: statistics beside those of replicates."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ppl_vae.evaluate.predictive_checks import PredictiveCheck
from ppl_vae.plots.common import as_array


def predictive_check(result: PredictiveCheck, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Each statistic of the data as a line, on the histogram of its replicates'.

    Args:
        result: what `evaluate.predictive_check(pair, data)` gave.
        axes: one for each statistic; by default a figure with rows of three.

    Raises:
        ValueError: for another number of axes.
    """
    number = len(result.names)
    if axes is None:
        columns = min(3, number)
        height = 1 + (number - 1) // columns
        grid = plt.subplots(
            height, columns, figsize=(3.1 * columns, 2.5 * height), layout="constrained", squeeze=False
        )[1].ravel()
        for empty in grid[number:]:
            empty.set_axis_off()
        axes = list(grid[:number])
    if len(axes) != number:
        raise ValueError(f"there are {number} statistics, so {number} axes are needed, got {len(axes)}")
    for place, (ax, name) in enumerate(zip(axes, result.names)):
        own, p = float(result.observed[place]), float(result.p_values[place])
        others = as_array(result.replicated[:, place])
        colour = "C3" if p < 0.05 else "C0"
        if np.ptp(others) > 1e-9 * max(1.0, np.abs(others).max()):
            ax.hist(others, bins=min(30, max(5, len(others) // 8)), color="0.8")
        else:  # all the same: a histogram of rounding errors would say nothing
            ax.axvline(others[0], color="0.8", linewidth=6)
        ax.axvline(own, color=colour, linewidth=1.8)
        ax.set_title(f"{name}, p = {p:.2g}", fontsize=10, color=colour if p < 0.05 else "black")
        ax.set_yticks([])
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.margins(x=0.08)
    axes[0].legend(
        handles=[Patch(color="0.8", label="replicates"), Line2D([], [], color="C0", label="data")],
        frameon=False,
        fontsize=8,
    )
    return list(axes)
