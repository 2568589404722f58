"""How far importance weights can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ppl_vae.plots.common import as_array, axes_for


def k_hat(k_hat: Tensor | np.ndarray | Any, ax: Axes | None = None) -> Axes:
    """The Pareto k-hat of each datum's importance weights, with the limits 0.5 and 0.7.

    Below 0.5 the estimate of log p(x) has finite variance, above 0.7 it cannot be trusted. For a result with
    few particles the limit is lower, min(1 - 1 / log10 K, 0.7).

    Args:
        k_hat: (N,), or a result that has them as `k_hat`.

    Vehtari, Simpson, Gelman, Yao and Gabry, Pareto Smoothed Importance Sampling, arXiv:1507.02646.
    """
    values = as_array(getattr(k_hat, "k_hat", k_hat)).astype(float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"k_hat must be (N,), one for each datum, got shape {values.shape}")
    ax = axes_for(ax, 6.4, 3.6)
    size = max(2.0, min(14.0, 6000 / len(values)))
    limit = float(getattr(k_hat, "k_hat_limit", 0.7))
    good = min(0.5, limit)
    bands = (
        ("C0", f"up to {good:.2g}", values <= good),
        ("C1", f"{good:.2g} to {limit:.2g}", (values > good) & (values <= limit)),
        ("C3", f"above {limit:.2g}", values > limit),
        ("0.6", "none", np.isnan(values)),  # too few particles, or weights that are all equal
    )
    for colour, name, chosen in bands:
        if not chosen.any() and colour in ("C1", "0.6") and (good == limit or colour == "0.6"):
            continue
        label = f"{name}: {chosen.mean():.1%}"
        ax.scatter(np.flatnonzero(chosen), values[chosen], s=size, color=colour, linewidths=0, label=label)
    for height, line in ((good, ":"), (limit, "--")):
        ax.axhline(height, color="0.3", linestyle=line, linewidth=1)
    ax.set_xlim(-0.02 * len(values) - 0.5, 1.02 * len(values) - 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.set_xlabel("datum")
    ax.set_ylabel(r"Pareto $\hat{k}$")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False, handletextpad=0.1)
    return ax
