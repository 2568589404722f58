"""Priors: modules whose `forward()` gives p(z), a Pyro distribution over one datum's latent vector.

A prior takes the place `prior=` of `models.VAE`; what it must offer is the Protocol `Prior`.
"""

from ppl_vae.core.plain_numbers import take_plain_numbers
from ppl_vae.priors.autoregressive import Autoregressive
from ppl_vae.priors.contract import Prior
from ppl_vae.priors.discrete import Bernoulli, Categorical
from ppl_vae.priors.flow import Flow
from ppl_vae.priors.location_scale import Gumbel, Laplace, StudentT
from ppl_vae.priors.mixture import MixtureOfGaussians
from ppl_vae.priors.normal import DiagonalNormal, StandardNormal
from ppl_vae.priors.normal_mixture import NormalMixture
from ppl_vae.priors.positive import Exponential, Gamma, LogNormal
from ppl_vae.priors.sphere import Sphere
from ppl_vae.priors.two_stage import TwoStage
from ppl_vae.priors.vamp import VampPrior
from ppl_vae.priors.wrapped_normal import WrappedNormal

__all__ = [
    "Autoregressive",
    "Bernoulli",
    "Categorical",
    "DiagonalNormal",
    "Exponential",
    "Flow",
    "Gamma",
    "Gumbel",
    "Laplace",
    "LogNormal",
    "MixtureOfGaussians",
    "NormalMixture",
    "Prior",
    "Sphere",
    "StandardNormal",
    "StudentT",
    "TwoStage",
    "VampPrior",
    "WrappedNormal",
]

take_plain_numbers(globals(), __all__)
