"""Plots of comparisons: each draws on Axes and returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

from ppl_vae.comparison.lower_bounds import lower_bounds
from ppl_vae.comparison.slopes import Slope

_MARKERS = "osD^vPX*<>"


def bounds(dataset: xarray.Dataset, ax: Axes | None = None) -> Axes:
    """The bounds of `comparison.at_point` against K, with two standard errors, and the evidence as a line.

    Estimators whose bounds are the same, as IWAE's and DReG's, lie beside each other a little apart.
    """
    ax = _axes(ax, 7.6, 4.2)
    names = [str(name) for name in dataset.estimator.values]
    shift = np.linspace(-0.03, 0.03, len(names)) if len(names) > 1 else np.zeros(1)
    for number, name in enumerate(names):
        cell = dataset.sel(estimator=name)
        known = np.isfinite(cell.bound.values)
        if not known.any():
            continue
        ax.errorbar(
            cell.K.values[known] * 10 ** shift[number],
            cell.bound.values[known],
            2 * cell.bound_standard_error.values[known],
            **_style(number),
            label=name,
        )
    evidence, error = dataset.attrs["evidence"], dataset.attrs["evidence_standard_error"]
    if np.isfinite(evidence):
        source = dataset.attrs["evidence_source"].replace(": ", ":\n")  # a long line would leave no room
        what = "at most log p(x)" if dataset.attrs.get("evidence_is_lower_bound", 0) else "log p(x)"
        label = f"{what}, {source}"
        ax.axhline(evidence, color="0.2", linestyle="--", linewidth=1.2, zorder=0, label=label)
    if error > 0:
        ax.axhspan(evidence - 2 * error, evidence + 2 * error, color="0.2", alpha=0.12, linewidth=0)
    _particles_axis(ax, dataset.K.values)
    ax.set_ylabel("nats per datum")
    ax.grid(alpha=0.3)
    _legend_outside(ax)
    return ax


def snr(
    dataset: xarray.Dataset,
    part: str = "guide",
    slopes: Mapping[str, Slope] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The signal-to-noise ratio of a program's gradient against K, on log-log axes.

    Args:
        dataset: of `comparison.at_point`.
        part: "model" or "guide".
        slopes: fitted power laws by estimator: drawn as lines, their powers in the legend.

    An arrow stands at the upper limit of a ratio that cannot be told from zero.
    """
    ax = _axes(ax, 7.6, 4.2)
    for number, name in enumerate(str(name) for name in dataset.estimator.values):
        cell = dataset.sel(estimator=name, part=part)
        value, error = cell.snr.values, cell.snr_standard_error.values
        # a ratio within two standard errors of zero is only known to be no larger than they allow
        seen = value > 2 * error
        unseen = np.isfinite(value) & ~seen
        if not (seen | unseen).any():
            continue
        fitted = (slopes or {}).get(name)
        label = name
        style = _style(number) | {"linestyle": "none"}
        if fitted is not None and np.isfinite(fitted.slope):
            sure = f" ± {fitted.standard_error:.2f}" if np.isfinite(fitted.standard_error) else ""
            label = f"{name}:  $K^{{{fitted.slope:+.2f}}}${sure}"
            ladder = cell.K.values[seen].astype(float)
            along = np.geomspace(ladder.min(), ladder.max(), 60)
            ax.plot(along, [fitted.at(k) for k in along], color=style["color"], linewidth=1.2, alpha=0.7)
        # a bar that would reach zero has no place on a logarithmic axis
        low = np.minimum(2 * error, 0.9 * value)[seen]
        bars = [low.tolist(), (2 * error[seen]).tolist()]
        if seen.any():
            ax.errorbar(cell.K.values[seen], value[seen], bars, **style, label=label)
        limit = np.maximum(value, 0) + 2 * error
        ax.plot(
            cell.K.values[unseen],
            limit[unseen],
            linestyle="none",
            marker=r"$\downarrow$",
            markersize=9,
            color=style["color"],
            label=None if seen.any() else f"{name} (limits)",
        )
    ax.set_yscale("log")
    _particles_axis(ax, dataset.K.values)
    ax.set_ylabel(f"signal-to-noise ratio, {part}'s gradient")
    ax.grid(alpha=0.3, which="major")
    _legend_outside(ax)
    return ax


def curves(
    dataset: xarray.Dataset, against: str = "step", measure: str = "auto", ax: Axes | None = None
) -> Axes:
    """Training curves of `comparison.after_training`: the mean over seeds, and a thin line for each.

    Args:
        dataset: its dataset.
        against: "step" or "seconds".
        measure: a variable by epoch; "auto" takes the ELBO on the validation data, or else in training.

    Raises:
        ValueError: for another `against`, or a measure that is not there.
    """
    if against not in ("step", "seconds"):
        raise ValueError(f"against must be 'step' or 'seconds', got {against!r}")
    measures = [str(name) for name, value in dataset.data_vars.items() if "epoch" in value.dims]
    if measure == "auto":
        measure = next((name for name in ("valid_elbo", "train_elbo", "train_bound") if name in measures), "")
    if measure not in measures:
        raise ValueError(f"there is no measure {measure!r} by epoch: choose from {measures}")
    ax = _axes(ax, 7.6, 4.2)
    settled: list[float] = []
    for number, name in enumerate(str(name) for name in dataset.estimator.values):
        run = dataset.sel(estimator=name)
        x, y = run[against].values, run[measure].values
        colour = _style(number)["color"]
        for seed in range(len(x)):
            known = np.isfinite(y[seed])
            ax.plot(
                x[seed][known], y[seed][known], color=colour, linewidth=0.7, alpha=0.35 if len(x) > 1 else 0
            )
        complete = np.isfinite(y).all(0)
        ax.plot(x.mean(0)[complete], y.mean(0)[complete], color=colour, linewidth=1.8, label=name)
        known = np.isfinite(y)
        late = known & (np.arange(y.shape[1]) >= 0.15 * y.shape[1])
        settled += y[late].tolist()
    _leave_out_start(ax, settled)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=against == "step"))
    ax.set_xlabel("gradient step" if against == "step" else "seconds of training")
    title = measure.replace("_", " ").replace("elbo", "ELBO").replace("valid", "validation")
    ax.set_ylabel(f"{title}, nats per datum")
    ax.grid(alpha=0.3)
    _legend_outside(ax)
    return ax


def scores(dataset: xarray.Dataset, ax: Axes | None = None) -> Axes:
    """A forest plot of the final scores of `comparison.after_training`, the best at the top.

    A dot for each seed; the mean with bars of one (thick) and two (thin) standard errors of its
    difference from the best, paired by datum and seed: estimators whose thin bars reach the best's
    line cannot be told from it. The best one has no bar. A "!" stands where k-hat makes log p(x) a lower
    bound and no more.
    """
    names = [str(name) for name in dataset.estimator.values]
    score = (
        dataset.log_likelihood.values.mean(-1)
        if dataset.log_likelihood.ndim == 2
        else dataset.log_likelihood.values
    )
    order = [i for i in np.argsort(score)[::-1] if np.isfinite(score[i])]
    ax = _axes(ax, 7.6, 1.1 + 0.42 * len(names))
    best = order[0]
    for row, number in enumerate(order):
        colour = _style(number)["color"]
        mean = -score[number]
        error = float(dataset.difference_from_best_standard_error.values[number])
        if np.isfinite(error) and number != best:
            ax.plot([mean - 2 * error, mean + 2 * error], [row, row], color=colour, linewidth=1.2, zorder=2)
            ax.plot([mean - error, mean + error], [row, row], color=colour, linewidth=3.5, zorder=2)
        each = -dataset.log_likelihood.values[number]
        ax.scatter(
            each, np.full(len(each), row), s=14, facecolor="white", edgecolor=colour, linewidths=1, zorder=3
        )
        ax.scatter([mean], [row], s=46, color=colour, zorder=4)
    ax.axvline(-score[best], color="0.3", linestyle=":", linewidth=1)
    bounded = lower_bounds(dataset)
    ax.set_yticks(range(len(order)), [names[number] + " !" * bounded[number] for number in order])
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.set_xlabel(
        f"$-\\log p(x)$, nats per datum, K = {dataset.attrs['judge_particles']:,}  (left is better)"
    )
    if any(bounded):
        ax.set_title("! log p(x) is a lower bound only: k-hat is too high", fontsize="medium")
    ax.grid(alpha=0.3, axis="x")
    return ax


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    if ax is not None:
        return ax
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _style(number: int) -> dict[str, Any]:
    return {
        "color": f"C{number % 10}",
        "marker": _MARKERS[number % len(_MARKERS)],
        "markersize": 5,
        "linewidth": 1.4,
        "elinewidth": 1.0,
        "capsize": 0,
    }


def _particles_axis(ax: Axes, ladder: Sequence[int]) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator([float(size) for size in ladder]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set_xlabel("particles K")


def _leave_out_start(ax: Axes, settled: Sequence[float]) -> None:
    """Let the first epochs, often hundreds of nats below the rest, run out of the picture."""
    if len(settled) < 10 or max(settled) <= min(settled):
        return
    span = max(settled) - min(settled)
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, min(settled) - 0.15 * span), min(high, max(settled) + 0.1 * span))


def _legend_outside(ax: Axes) -> None:
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
