"""Transforms: bijections of a latent whose parameters are computed for each datum, for flow guides."""

from ppl_vae.transforms.autoregressive import masked_autoregressive
from ppl_vae.transforms.conditioned import Conditioned, constant_head
from ppl_vae.transforms.planar import Planar
from ppl_vae.transforms.sylvester import Sylvester, householder, orthonormal

__all__ = [
    "Conditioned",
    "Planar",
    "Sylvester",
    "constant_head",
    "householder",
    "masked_autoregressive",
    "orthonormal",
]
