"""What every plot needs: Axes to draw on, and results as arrays."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from torch import Tensor

from ppl_vae.queries import Draws

FEW = 20
"""Classes that a legend can hold."""


def axes_for(ax: Axes | None, width: float, height: float) -> Axes:
    """`ax`, or new Axes of this size in inches."""
    if ax is not None:
        return ax
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def as_array(values: Any) -> np.ndarray:
    """A tensor on any device, or what numpy takes, as an array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def number(value: float, scale: float = 1.0) -> str:
    """A tick's label, two digits; what is rounding error beside `scale` is 0.

    >>> number(-6e-08), number(-0.666667), number(2e-9, scale=1e-8), number(-0.0, scale=0.0)
    ('0', '-0.67', '2e-09', '0')
    """
    return "0" if abs(value) <= 1e-5 * scale else f"{value:.2g}"


def classes_of(groups: np.ndarray) -> tuple[np.ndarray, Any] | None:
    """The classes among labels, and a map from their numbers 0, 1, ... to colours; None for real numbers."""
    if np.issubdtype(groups.dtype, np.floating):
        return None
    classes = np.unique(groups)
    few = 10 if len(classes) <= 10 else 20
    if len(classes) <= FEW:
        return classes, ListedColormap([plt.get_cmap(f"tab{few}")(i) for i in range(len(classes))])
    return classes, plt.get_cmap("turbo", len(classes))


def class_bar(ax: Axes, classes: np.ndarray, colours: Any) -> None:
    """A bar of one colour a class, for more classes than a legend holds."""
    norm = BoundaryNorm(np.arange(len(classes) + 1) - 0.5, len(classes))
    step = math.ceil(len(classes) / 12)
    bar = ax.figure.colorbar(ScalarMappable(norm, colours), ax=ax, label=f"class, {len(classes)} of them")
    bar.set_ticks(range(0, len(classes), step), labels=[str(each) for each in classes[::step]])
    bar.minorticks_off()


def means_of(draws: Draws | Tensor | np.ndarray) -> Tensor:
    """The means of a query, or the tensor itself."""
    return draws.mean if isinstance(draws, Draws) else torch.as_tensor(draws)
