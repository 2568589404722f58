"""The KL term of each latent site, as a training goes on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ppl_vae.plots.common import axes_for

_NAMED = 14  # more names than these would not be read


def layer_kl(history: pd.DataFrame, part: str = "train", ax: Axes | None = None) -> Axes:
    """The KL term of each latent site in a run's history, one band on the other, in nats per datum.

    The bands stand in the order in which the guide draws, the first at the bottom, so that of a ladder
    the top layer is at the bottom; together they are as high as the whole KL term. A term that is negative,
    as one that is estimated may be, has no band.

    Args:
        history: one row an epoch with columns such as `epoch` and `train_kl_z`.
        part: "train" or "valid".
        ax: Axes to draw on.

    Raises:
        ValueError: when there is no such column; the message lists those that there are.
    """
    prefix = f"{part}_kl_"
    columns = [name for name in map(str, history.columns) if name.startswith(prefix)]
    if not columns:
        raise ValueError(f"no column begins with {prefix!r}; the columns are {list(history.columns)}")
    known = history.dropna(subset=columns)
    heights = known[columns].to_numpy(dtype=float).T.clip(min=0.0)
    ax = axes_for(ax, 6.0, 4.0)
    colours = colormaps["viridis"](np.linspace(0, 1, len(columns)))
    names = [name.removeprefix(prefix) for name in columns]
    bands = ax.stackplot(known["epoch"], heights, colors=colours, labels=names)
    shown = list(range(len(names)))
    if len(names) > _NAMED:
        shown = sorted({round(place) for place in np.linspace(0, len(names) - 1, _NAMED // 2)})
    chosen = [(bands[i], names[i]) for i in reversed(shown)]  # from the top, as the bands lie
    ax.legend([band for band, _ in chosen], [name for _, name in chosen], fontsize=7, loc="upper left")
    ax.margins(x=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.set_xlabel("epoch")
    ax.set_ylabel("nats per datum")
    return ax
