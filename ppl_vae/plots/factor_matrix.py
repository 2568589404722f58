"""Which dimension of a code knows which factor."""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes

from ppl_vae.evaluate.disentangled import Disentanglement
from ppl_vae.plots.common import axes_for

_WRITTEN = 200  # cells that numbers fit in


def factors(
    result: Disentanglement,
    what: Literal["information", "importance"] = "information",
    ax: Axes | None = None,
) -> Axes:
    """A matrix of dimensions against factors: a disentangled code has one dark cell in each column.

    Args:
        result: what `evaluate.disentanglement(pair, data)` gave.
        what: mutual "information" in nats, of which MIG is made, or the "importance" behind DCI.

    Raises:
        ValueError: for another `what`.
    """
    shown = {"information": result.information, "importance": result.dci.importance}
    if what not in shown:
        raise ValueError(f"what must be one of {list(shown)}, got {what!r}")
    values = shown[what]
    dims, number = values.shape
    ax = axes_for(ax, 1.8 + 0.8 * number, 1.2 + 0.32 * dims)
    top = max(float(values.max()), 1e-12)
    image = ax.imshow(values, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    if values.size <= _WRITTEN:
        for (row, column), value in ((place, values[place]) for place in _places(dims, number)):
            colour = "white" if value > 0.6 * top else "black"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(range(number), labels=result.names)
    ax.set_yticks(range(dims), labels=[f"{result.site}[{row}]" for row in range(dims)])
    ax.figure.colorbar(image, ax=ax, label="nats" if what == "information" else "importance")
    score = f"MIG {result.mig:.2f}" if what == "information" else f"DCI {result.dci.disentanglement:.2f}"
    ax.set_title(f"{what}, {score}")
    return ax


def _places(dims: int, number: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(dims) for column in range(number)]
