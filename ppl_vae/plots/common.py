"""What every plot needs: Axes to draw on, and results as arrays."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from ppl_vae.queries import Draws


def axes_for(ax: Axes | None, width: float, height: float) -> Axes:
    """`ax`, or new Axes of this size in inches."""
    if ax is not None:
        return ax
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def as_array(values: Any) -> np.ndarray:
    """A tensor on any device, or what numpy takes, as an array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def means_of(draws: Draws | Tensor | np.ndarray) -> Tensor:
    """The means of a query, or the tensor itself."""
    return draws.mean if isinstance(draws, Draws) else torch.as_tensor(draws)
