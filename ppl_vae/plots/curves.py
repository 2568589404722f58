"""Curves of a training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ppl_vae.plots.common import axes_for

_BOUNDS = ("bound", "elbo")


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
    ax = axes_for(ax, 6.0, 4.0)
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
