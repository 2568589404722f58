"""Whether the guide is the posterior: ranks under a simultaneous band."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ppl_vae.evaluate.simulation_calibration import Calibration
from ppl_vae.evaluate.uniformity import band
from ppl_vae.plots.common import as_array, axes_for

_NAMED = 8  # curves in a legend


def calibration(result: Calibration, ax: Axes | None = None) -> Axes:
    """The distribution function of each dimension's ranks less the uniform one, under a simultaneous band.

    With probability `result.level` a calibrated guide has all of its curves inside. A guide that is too
    narrow has a curve that rises above zero, then falls below it; one that is too wide the other way round;
    one that lies too low stays below zero. Curves that leave the band are coloured and named.

    Args:
        result: what `evaluate.calibration(pair)` gave.

    Säilynoja, Bürkner and Vehtari, Graphical Test for Discrete Uniformity, arXiv:2103.10522.
    """
    ax = axes_for(ax, 6.6, 4.8)
    ranks, size, num_ranks = as_array(result.ranks), len(result.ranks), result.num_draws + 1
    share = np.arange(num_ranks + 1) / num_ranks
    low, high = band(size, num_ranks, 1 - (1 - result.level) / len(result.names))
    bottom, top = (np.concatenate([[0], bound, [size]]) / size - share for bound in (low, high))
    for edge in (bottom, top):
        ax.plot(share, edge, color="0.55", linewidth=0.8)
    label = f"{result.level:.0%} band, all {len(result.names)} curves"
    ax.fill_between(share, bottom, top, color="0.9", linewidth=0, label=label)
    departs = sorted(result.departs, key=lambda name: float(result.p_values[result.names.index(name)]))
    inside = [name for name in result.names if name not in departs]
    for place, name in enumerate([*departs, *inside]):
        counts = np.bincount(ranks[:, result.names.index(name)], minlength=num_ranks).cumsum() / size
        curve = np.concatenate([[0], counts]) - share
        if place >= len(departs):
            ax.plot(share, curve, color="0.3", linewidth=0.7, alpha=0.7, zorder=2)
            continue
        text = f"{name}: draws {result.verdict(name)}" if place < _NAMED else None
        ax.plot(share, curve, color=f"C{place % 10}", linewidth=1.4, zorder=3, label=text)
    ax.axhline(0, color="0.3", linewidth=0.8, linestyle=":")
    ax.set_xlim(0, 1)
    ax.set_xlabel("rank of the true latent among the guide's draws, as a share")
    ax.set_ylabel("distribution function, less uniform")
    ax.set_title(f"{len(inside)} of {len(result.names)} dimensions uniform, p = {result.p_value:.2g}")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=9)
    return ax
