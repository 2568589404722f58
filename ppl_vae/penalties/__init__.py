"""Penalties: what training adds to the loss at observed data, for pictures that look sharper. No bounds.

A likelihood that takes pixels one by one prefers the mean of all that could be: a blur. These terms compare
pictures as wholes. The pair and its likelihood stay what they are, so that `train_elbo` and all of
`ppl_vae.evaluate` go on to give true bounds of it, while `train_bound`, which is optimised, is none.
"""

from ppl_vae.core.plain_numbers import take_plain_numbers
from ppl_vae.penalties.adversarial import Adversarial
from ppl_vae.penalties.gradient import GradientPenalty
from ppl_vae.penalties.perceptual import Perceptual
from ppl_vae.penalties.structural_similarity import MSSSIM, ms_ssim
from ppl_vae.penalties.treatment import Penalties, SitePenalty, by_site

__all__ = [
    "MSSSIM",
    "Adversarial",
    "GradientPenalty",
    "Penalties",
    "Perceptual",
    "SitePenalty",
    "by_site",
    "ms_ssim",
]

take_plain_numbers(globals(), __all__)
