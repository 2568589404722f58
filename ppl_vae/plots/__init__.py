"""Plots: each takes a result, or the arrays in it, draws on Axes and returns them.

Nothing here trains, shows or saves: `plots.images(x).figure.savefig("x.png")` does. Every function takes
`ax=` to draw on Axes that exist; otherwise it makes a figure of a fitting size with `plt.subplots`.

>>> import matplotlib.pyplot as plt, torch
>>> from ppl_vae import plots
>>> ax = plots.images(torch.rand(12, 1, 8, 8), columns=6)
>>> ax.figure.savefig("images.png")  # doctest: +SKIP
>>> plt.close(ax.figure)
"""

from ppl_vae.plots.calibration_bands import calibration
from ppl_vae.plots.curves import training_curves
from ppl_vae.plots.factor_matrix import factors
from ppl_vae.plots.grids import by_label, images, interpolation, reconstructions, samples, traversal
from ppl_vae.plots.latent import latent_map, tsne
from ppl_vae.plots.layers import layer_kl
from ppl_vae.plots.predictive import predictive_check
from ppl_vae.plots.prior import holes
from ppl_vae.plots.roc_curves import roc
from ppl_vae.plots.table_columns import columns
from ppl_vae.plots.vectors import cloud, vector_reconstructions, vector_traversal
from ppl_vae.plots.weights import k_hat

__all__ = [
    "by_label",
    "calibration",
    "cloud",
    "columns",
    "factors",
    "holes",
    "images",
    "interpolation",
    "k_hat",
    "latent_map",
    "layer_kl",
    "predictive_check",
    "reconstructions",
    "roc",
    "samples",
    "training_curves",
    "traversal",
    "tsne",
    "vector_reconstructions",
    "vector_traversal",
]
