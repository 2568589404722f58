"""A table's columns one by one, in the user's units: the data beside samples of the model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from ppl_vae.plots.common import axes_for

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

_DATA, _MODEL = "0.45", "C1"
MOST_COLUMNS = 30
"""Columns that one picture holds."""
_MOST_BARS = 16
_BINS = 30


def columns(x: pd.DataFrame, samples: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The columns of a table, a panel each: how often each value comes in the data and in samples.

    Histograms of numbers, bars of classes, levels and few whole numbers. A gap is no value: the share of them
    stands above the panel. What two columns have to do with each other `plots.cloud` shows.

    Args:
        x: the data in the user's units, `dataset.schema.inverse(x)`.
        samples: of the same columns, `schema.inverse(pv.sample(pair, 1000).value)`.

    Raises:
        ValueError: when the two have different columns.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"height": [1.6, 1.8, None], "town": ["Ulm", "Bonn", "Ulm"]})
    >>> len(columns(frame, frame.head(2)).child_axes)
    2
    """
    if list(x.columns) != list(samples.columns):
        raise ValueError(f"x has the columns {list(x.columns)}, and samples have {list(samples.columns)}")
    names = list(x.columns)[:MOST_COLUMNS]
    wide = min(len(names), max(2, math.ceil(math.sqrt(len(names)))))
    high = math.ceil(len(names) / wide)
    ax = axes_for(ax, 2.6 * wide, 2.1 * high + 0.4)
    ax.set_axis_off()
    panels = []
    width, height = 1 / wide, 1 / high
    for number, name in enumerate(names):
        row, column = divmod(number, wide)
        place = (column * width + 0.12 * width, 1 - (row + 1) * height + 0.2 * height)
        panel = ax.inset_axes((*place, 0.8 * width, 0.58 * height))
        panels.append(panel)
        _panel(panel, x[name], samples[name])
        panel.set_title(_heading(str(name), x[name]), fontsize=8, pad=3)
        panel.tick_params(labelsize=7, length=2)
        panel.set_yticks([])
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
    left = len(x.columns) - len(names)
    ax.legend(
        *panels[0].get_legend_handles_labels(),
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
        title=f"and {left} columns more" if left else None,
    )
    return ax


def _panel(panel: Axes, x: pd.Series, samples: pd.Series) -> None:
    data, drawn = x.dropna(), samples.dropna()
    if _is_continuous(data, drawn):
        _histograms(panel, data.to_numpy(dtype=float), drawn.to_numpy(dtype=float))
        return
    levels = _levels(x, samples)
    shares = [
        [float((each == level).mean()) if len(each) else 0.0 for level in levels] for each in (data, drawn)
    ]
    places = np.arange(len(levels))
    for shift, share, colour, label in (
        (-0.2, shares[0], _DATA, "data"),
        (0.2, shares[1], _MODEL, "samples"),
    ):
        panel.bar(places + shift, share, 0.4, color=colour, label=label)
    shown = places[:: math.ceil(max(1, len(levels)) / 8)]
    turned = max((len(str(level)) for level in levels), default=0) * len(shown) > 22
    texts = [_short(str(levels[place])) for place in shown]
    panel.set_xticks(shown, texts, rotation=35 if turned else 0, ha="right" if turned else "center")


def _histograms(panel: Axes, data: np.ndarray, drawn: np.ndarray) -> None:
    """On the data's span and a little more: a stray sample must not make bins of everything else."""
    both = np.concatenate([data, drawn])
    low, high = (data.min(), data.max()) if len(data) else (both.min(), both.max())
    margin = 0.25 * (high - low) or 1.0
    bins = np.linspace(max(low - margin, both.min()), min(high + margin, both.max()), _BINS + 1)
    if not bins[-1] > bins[0]:
        bins = np.linspace(bins[0] - 0.5, bins[0] + 0.5, _BINS + 1)
    for values, style in (
        (data, {"color": _DATA, "alpha": 0.6, "label": "data"}),
        (drawn, {"color": _MODEL, "histtype": "step", "linewidth": 1.5, "label": "samples"}),
    ):
        share: dict[str, Any] = {"weights": np.full(len(values), 1 / max(1, len(values)))}
        panel.hist(values, bins.tolist(), **style, **share)  # type: ignore[arg-type]


def _is_continuous(data: pd.Series, drawn: pd.Series) -> bool:
    numeric = all(each.dtype.kind in "iufb" for each in (data, drawn))
    if not numeric or not len(data):
        return False
    whole = bool((data == data.round()).all() and (drawn == drawn.round()).all())
    return not whole or len({*data.unique(), *drawn.unique()}) > _MOST_BARS


def _levels(x: pd.Series, samples: pd.Series) -> list[Any]:
    if hasattr(x.dtype, "categories"):
        return list(x.dtype.categories)
    return sorted({*x.dropna().unique(), *samples.dropna().unique()})


def _heading(name: str, x: pd.Series) -> str:
    gaps = float(x.isna().mean())
    return _short(name, 24) + (f"  ({gaps:.0%} missing)" if gaps else "")


def _short(text: str, most: int = 12) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
