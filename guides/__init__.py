"""Guides: Pyro programs q(z | x), one family of approximate posteriors a file."""

if not __name__.startswith("ppl_vae."):
    raise ImportError("import this folder as ppl_vae.guides: 'import guides' would load a second copy")

from ppl_vae.core.plain_numbers import take_plain_numbers
from ppl_vae.guides.attending import Attending
from ppl_vae.guides.bernoulli import Bernoulli
from ppl_vae.guides.bernoulli_layers import BernoulliLayers
from ppl_vae.guides.bottom_up import BottomUp
from ppl_vae.guides.categorical import Categorical
from ppl_vae.guides.conditional import Conditional
from ppl_vae.guides.deep_top_down import DeepTopDown
from ppl_vae.guides.deterministic import Deterministic
from ppl_vae.guides.experts import ProductOfExperts
from ppl_vae.guides.exponential import Exponential
from ppl_vae.guides.full_rank import FullRank
from ppl_vae.guides.gamma import Gamma
from ppl_vae.guides.global_mean_field import GlobalMeanField
from ppl_vae.guides.gumbel import Gumbel
from ppl_vae.guides.hamiltonian import Hamiltonian
from ppl_vae.guides.iaf import IAF
from ppl_vae.guides.laplace import Laplace
from ppl_vae.guides.log_normal import LogNormal
from ppl_vae.guides.low_rank import LowRank
from ppl_vae.guides.mean_field import MeanField
from ppl_vae.guides.mixed_experts import MixtureOfExperts, MixtureOfProducts
from ppl_vae.guides.noising import Noising, NoisingLadder
from ppl_vae.guides.planar import Planar
from ppl_vae.guides.power_spherical import PowerSpherical
from ppl_vae.guides.riemannian import RiemannianHamiltonian
from ppl_vae.guides.semi_amortised import SemiAmortised
from ppl_vae.guides.semi_supervised import SemiSupervised
from ppl_vae.guides.smoothing import Smoothing
from ppl_vae.guides.spline import Spline
from ppl_vae.guides.student_t import StudentT
from ppl_vae.guides.sylvester import HouseholderSylvester, Sylvester
from ppl_vae.guides.top_down import TopDown
from ppl_vae.guides.two_stage import TwoStage
from ppl_vae.guides.vector_quantised import ResidualQuantised, VectorQuantised
from ppl_vae.guides.wrapped_normal import WrappedNormal

__all__ = [
    "IAF",
    "Attending",
    "Bernoulli",
    "BernoulliLayers",
    "BottomUp",
    "Categorical",
    "Conditional",
    "DeepTopDown",
    "Deterministic",
    "Exponential",
    "FullRank",
    "Gamma",
    "GlobalMeanField",
    "Gumbel",
    "Hamiltonian",
    "HouseholderSylvester",
    "Laplace",
    "LogNormal",
    "LowRank",
    "MeanField",
    "MixtureOfExperts",
    "MixtureOfProducts",
    "Noising",
    "NoisingLadder",
    "Planar",
    "PowerSpherical",
    "ProductOfExperts",
    "ResidualQuantised",
    "RiemannianHamiltonian",
    "SemiAmortised",
    "SemiSupervised",
    "Smoothing",
    "Spline",
    "StudentT",
    "Sylvester",
    "TopDown",
    "TwoStage",
    "VectorQuantised",
    "WrappedNormal",
]

take_plain_numbers(globals(), __all__)
