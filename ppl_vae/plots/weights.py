"""How far importance weights can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ppl_vae.plots.common import as_array, axes_for


def k_hat(k_hat: Tensor | np.ndarray | Any, ax: Axes | None = None) -> Axes:
    """The Pareto k-hat of each datum's importance weights, with the usual limits 0.5 and 0.7.

    Below 0.5 the estimate of log p(x) has finite variance, above 0.7 it cannot be trusted.

    Args:
        k_hat: (N,), or a result that has them as `k_hat`.

    Vehtari, Simpson, Gelman, Yao and Gabry, Pareto Smoothed Importance Sampling, arXiv:1507.02646.
    """
    values = as_array(getattr(k_hat, "k_hat", k_hat)).astype(float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"k_hat must be (N,), one for each datum, got shape {values.shape}")
    ax = axes_for(ax, 6.4, 3.6)
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
