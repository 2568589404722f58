"""Codes in the plane: their principal axes, and their t-SNE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from sklearn.manifold import TSNE
from torch import Tensor

from ppl_vae.plots.common import FEW, as_array, axes_for, class_bar, classes_of
from ppl_vae.queries import Draws


def latent_map(
    mean: Draws | Tensor | np.ndarray,
    labels: Tensor | np.ndarray | Sequence[Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The guide's means in the plane, coloured by label; the first two principal axes when d > 2.

    A single dimension gets a histogram, a part of each bar for each class.

    Args:
        mean: (N, d) or (N,), or what `queries.encode` gave.
        labels: (N,): classes (whole numbers or strings, a legend) or real numbers (a colour bar).

    Raises:
        ValueError: for a mean that is not (N, d) or (N,), labels that are not (N,).
    """
    z = as_array(mean.mean if isinstance(mean, Draws) else mean).astype(float)
    if z.ndim not in (1, 2) or not z.size:
        raise ValueError(f"mean must be (N, d) or (N,), got shape {z.shape}")
    if z.ndim == 1 or z.shape[1] == 1:
        return _histogram(z.reshape(-1), _groups(labels, len(z)), axes_for(ax, 5.8, 4.0))
    names = ["z[0]", "z[1]"]
    if z.shape[1] > 2:
        centred = z - z.mean(0)
        left, singular, _ = np.linalg.svd(centred, full_matrices=False)
        z = left[:, :2] * singular[:2]
        share = singular[:2] ** 2 / max(float((singular**2).sum()), 1e-300)
        names = [f"principal axis {i + 1} ({share[i]:.0%} of the variance)" for i in range(2)]
    groups = _groups(labels, len(z))
    ax = axes_for(ax, 5.8, 5.0)
    _scatter(ax, z, groups)
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    return ax


def tsne(
    codes: Mapping[str, Draws | Tensor | np.ndarray],
    labels: Tensor | np.ndarray | Sequence[Any] | None = None,
    axes: Sequence[Axes] | None = None,
    *,
    limit: int = 1000,
    perplexity: float = 30.0,
    seed: int = 0,
) -> list[Axes]:
    """The t-SNE of several sets of codes of the same data, side by side, coloured by label.

    t-SNE keeps neighbours together; sizes of clusters and distances between them mean little.

    Args:
        codes: by title, what `queries.encode` gave or (N, d): `tsne({"autoencoder": ..., "VAE": ...}, y)`.
        labels: (N,), as in `latent_map`.
        axes: one for each set; by default a figure with a row of them.
        limit: how many data are shown, drawn at random, the same in each panel.
        perplexity: about how many neighbours each point has.
        seed: of the choice and of t-SNE.

    Raises:
        ValueError: for codes that are not (N, d) with one N, too few of them for the perplexity, labels
            that are not (N,), and another number of axes.

    Van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 2008.
    """
    found = {name: as_array(z.mean if isinstance(z, Draws) else z).astype(float) for name, z in codes.items()}
    shapes = {name: z.shape for name, z in found.items()}
    sizes = {shape[0] for shape in shapes.values() if len(shape) == 2}
    if len(sizes) != 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise ValueError(f"codes must be (N, d) with the same N each, got shapes {shapes}")
    (size,) = sizes
    groups = _groups(labels, size)
    chosen = np.sort(np.random.default_rng(seed).permutation(size)[:limit])
    if len(chosen) <= perplexity:
        raise ValueError(
            f"perplexity={perplexity:g} needs more than so many data, got {len(chosen)}: lower it"
        )
    if axes is None:
        wide, legend = 4.2 * len(found), 0.8 if groups is not None else 0.0
        _, made = plt.subplots(
            1, len(found), figsize=(wide + legend, 4.4), layout="constrained", squeeze=False
        )
        axes = list(made[0])
    if len(axes) != len(found):
        raise ValueError(f"{len(found)} sets of codes need as many axes, got {len(axes)}")
    for number, (ax, (name, z)) in enumerate(zip(axes, found.items())):
        embedding = TSNE(perplexity=perplexity, init="pca", random_state=seed)
        plane = embedding.fit_transform(z[chosen])
        shown = None if groups is None else groups[chosen]
        _scatter(ax, plane, shown, legend=number == len(found) - 1)
        ax.set_title(name)
        ax.set_xticks([])
        ax.set_yticks([])
    return list(axes)


def _groups(labels: Tensor | np.ndarray | Sequence[Any] | None, size: int) -> np.ndarray | None:
    groups = None if labels is None else as_array(labels)
    if groups is not None and groups.shape != (size,):
        raise ValueError(f"labels must be ({size},), one for each datum, got shape {groups.shape}")
    return groups


def _histogram(z: np.ndarray, groups: np.ndarray | None, ax: Axes) -> Axes:
    found = None if groups is None else classes_of(groups)
    bins = np.histogram_bin_edges(z, bins=min(40, max(5, len(z) // 10))).tolist()
    if found is None or groups is None:
        ax.hist(z, bins=bins)
    else:
        classes, colours = found
        parts, shades = [z[groups == label] for label in classes], [colours(i) for i in range(len(classes))]
        ax.hist(parts, bins=bins, stacked=True, color=shades, label=[str(label) for label in classes])
        if len(classes) <= FEW:
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        else:
            class_bar(ax, classes, colours)
    ax.set_xlabel("z")
    ax.set_ylabel("data")
    return ax


def _scatter(ax: Axes, z: np.ndarray, groups: np.ndarray | None, legend: bool = True) -> None:
    """Points (N, 2), coloured by class or by number, with the same span on both axes."""
    style: dict[str, Any] = {"s": max(3.0, min(16.0, 12000 / len(z))), "alpha": 0.8, "linewidths": 0}
    if groups is None:
        ax.scatter(*z.T, **style)
    else:
        found = classes_of(groups)
        if found is not None and len(found[0]) <= FEW:
            classes, colours = found
            for i, label in enumerate(classes):
                ax.scatter(*z[groups == label].T, color=colours(i), label=str(label), **style)
            if legend:
                ax.legend(
                    loc="center left",
                    bbox_to_anchor=(1.0, 0.5),
                    frameon=False,
                    markerscale=2,
                    handletextpad=0.1,
                )
        elif found is not None:
            classes, colours = found
            ax.scatter(z[:, 0], z[:, 1], c=colours(np.searchsorted(classes, groups)), **style)
            if legend:
                class_bar(ax, classes, colours)
        else:
            points = ax.scatter(z[:, 0], z[:, 1], c=groups.astype(float), cmap="viridis", **style)
            if legend:
                ax.figure.colorbar(points, ax=ax, label="label")
    # the same span on both axes: aspect="equal" would move the limits after the layout was made
    middle, span = (z.max(0) + z.min(0)) / 2, 1.06 * float(np.ptp(z, axis=0).max()) or 1.0
    ax.set_xlim(middle[0] - span / 2, middle[0] + span / 2)
    ax.set_ylim(middle[1] - span / 2, middle[1] + span / 2)
    ax.set_box_aspect(1)
