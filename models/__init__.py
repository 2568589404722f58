"""Generative models: Pyro programs p(x, z), one family a file."""

if not __name__.startswith("ppl_vae."):
    raise ImportError("import this folder as ppl_vae.models: 'import models' would load a second copy")

from ppl_vae.core.plain_numbers import take_plain_numbers
from ppl_vae.models.attend_infer_repeat import AttendInferRepeat
from ppl_vae.models.autoencoder import Autoencoder
from ppl_vae.models.bayesian_decoder_vae import BayesianDecoderVAE
from ppl_vae.models.conditional_vae import ConditionalVAE
from ppl_vae.models.deep_ladder import DeepLadder
from ppl_vae.models.deep_markov import DeepMarkov
from ppl_vae.models.diffusion import Diffusion, DiffusionLadder
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.ladder_vae import LadderVAE
from ppl_vae.models.linear_gaussian import LinearGaussian
from ppl_vae.models.mixture_vae import MixtureVAE
from ppl_vae.models.multimodal_vae import MultimodalVAE
from ppl_vae.models.semi_supervised_vae import SemiSupervisedVAE
from ppl_vae.models.sigmoid_belief_network import SigmoidBeliefNetwork
from ppl_vae.models.vae import VAE
from ppl_vae.models.with_prior import WithPrior

__all__ = [
    "VAE",
    "AttendInferRepeat",
    "Autoencoder",
    "BayesianDecoderVAE",
    "ConditionalVAE",
    "DeepLadder",
    "DeepMarkov",
    "Diffusion",
    "DiffusionLadder",
    "FactorAnalysis",
    "LadderVAE",
    "LinearGaussian",
    "MixtureVAE",
    "MultimodalVAE",
    "SemiSupervisedVAE",
    "SigmoidBeliefNetwork",
    "WithPrior",
]

take_plain_numbers(globals(), __all__)
