"""How well scores tell anomalies from normal data."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from ppl_vae.evaluate.anomaly_scores import Anomaly
from ppl_vae.plots.common import as_array, axes_for


def roc(results: Anomaly | Mapping[str, Anomaly], ax: Axes | None = None) -> Axes:
    """The share of anomalies that a score finds against the share of normal data that it takes for some.

    Args:
        results: what `evaluate.anomaly(pair, data, labels=...)` gave, or several by name.
        ax: Axes to draw on.

    Raises:
        ValueError: for a result without labels.
    """
    from scipy.stats import rankdata
    from sklearn.metrics import roc_curve

    ax = axes_for(ax, 6.6, 4.4)
    found = {results.method: results} if isinstance(results, Anomaly) else dict(results)
    if not found:
        raise ValueError("there are no results to draw")
    for name, result in found.items():
        if result.labels is None:
            raise ValueError(f"the result {name!r} has no labels: evaluate.anomaly(..., labels=...)")
        # by ranks, since scores may be infinite
        wrong, right, _ = roc_curve(as_array(result.labels), rankdata(as_array(result.score)))
        ax.plot(wrong, right, label=f"{name}, {result.auroc:.3f}")
    ax.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
    ax.set_aspect("equal")
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)
    ax.set_xlabel("normal data taken for anomalies")
    ax.set_ylabel("anomalies found")
    title = "score, area under the curve"
    ax.legend(title=title, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return ax
