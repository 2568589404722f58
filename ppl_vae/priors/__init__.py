"""Priors: modules whose `forward()` gives p(z), a Pyro distribution over one datum's latent vector.

A prior has `latent_dim` and takes the place `prior=` of `models.VAE`. What is learned in it is
trained, saved and loaded with the pair.
"""

from ppl_vae.priors.flow import Flow
from ppl_vae.priors.location_scale import Gumbel, Laplace, StudentT
from ppl_vae.priors.mixture import MixtureOfGaussians
from ppl_vae.priors.normal import DiagonalNormal, StandardNormal
from ppl_vae.priors.normal_mixture import NormalMixture
from ppl_vae.priors.positive import Exponential, Gamma, LogNormal
from ppl_vae.priors.sphere import Sphere
from ppl_vae.priors.vamp import VampPrior

__all__ = [
    "DiagonalNormal",
    "Exponential",
    "Flow",
    "Gamma",
    "Gumbel",
    "Laplace",
    "LogNormal",
    "MixtureOfGaussians",
    "NormalMixture",
    "Sphere",
    "StandardNormal",
    "StudentT",
    "VampPrior",
]
