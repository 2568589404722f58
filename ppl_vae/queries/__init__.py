r"""Queries: what a trained pair can be asked, each an effect handler on its two programs.

======================  =====================================================================
`sample`                `uncondition` the model: draws from the prior program
`encode`                the guide's draws, and its mean
`reconstruct`           `uncondition` the model and `replay` the guide's draws
`decode`                `uncondition` the model and `condition` it on chosen latents
`interpolate`           `encode` two ends, `decode` the path between them
`traverse`              `encode`, then `decode` while one latent dimension moves
`latent_features`       a data set with each datum replaced by what `encode` makes of it
`class_probabilities`   q(y | x), or p(y | x), at a finite site: the pair as a classifier
`attribute`             the vector between the mean codes of two groups; `decode` along it
`optimise`              codes that ascend a score of what they decode to, where data have theirs
======================  =====================================================================

Every query runs without gradients and in eval mode (each module's mode is put back), on the pair's
device, and changes neither the pair nor, when a `seed` is given, the caller's random numbers. A batch is a
tensor or a tuple of tensors, as the programs take it.

>>> import torch
>>> from ppl_vae import Pair, models, nets, queries, guides
>>> x = torch.randn(5, 3)
>>> guide = guides.MeanField(nets.MLPEncoder((3,), latent_dim=2, hidden=()))
>>> pair = Pair(models.LinearGaussian(latent_dim=2, data_dim=3), guide, example=(x,))
>>> queries.sample(pair, 4, seed=0).value.shape
torch.Size([4, 3])
>>> queries.encode(pair, x).mean.shape
torch.Size([5, 2])
>>> queries.interpolate(pair, x[:2], x[2:4], steps=8).mean.shape
torch.Size([8, 2, 3])
"""

from __future__ import annotations

from ppl_vae.queries.classes import class_probabilities
from ppl_vae.queries.directions import Attribute, attribute
from ppl_vae.queries.draws import Draws, Traversal
from ppl_vae.queries.features import latent_features
from ppl_vae.queries.optimising import Optimised, optimise
from ppl_vae.queries.paths import interpolate, traverse
from ppl_vae.queries.questions import decode, encode, reconstruct, sample

__all__ = [
    "Attribute",
    "Draws",
    "Optimised",
    "Traversal",
    "attribute",
    "class_probabilities",
    "decode",
    "encode",
    "interpolate",
    "latent_features",
    "optimise",
    "reconstruct",
    "sample",
    "traverse",
]
