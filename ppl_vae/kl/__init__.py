"""What is done to the KL term in training, by latent site and apart from the estimator, one family a file."""

from ppl_vae.core.plain_numbers import take_plain_numbers
from ppl_vae.kl.adversarial_prior import AdversarialPrior
from ppl_vae.kl.beta import Beta
from ppl_vae.kl.capacity import Capacity
from ppl_vae.kl.commitment import Commitment
from ppl_vae.kl.dip import DIP
from ppl_vae.kl.factor_vae import FactorVAE
from ppl_vae.kl.free_bits import FreeBits
from ppl_vae.kl.mmd import MMD
from ppl_vae.kl.plan import KL, KLPlan
from ppl_vae.kl.total_correlation import TotalCorrelation
from ppl_vae.kl.treatment import KLPenalty, KLWeight, Penalty
from ppl_vae.kl.warmup import CosineWarmup, CyclicWarmup, LinearWarmup, SigmoidWarmup

__all__ = [
    "DIP",
    "KL",
    "MMD",
    "AdversarialPrior",
    "Beta",
    "Capacity",
    "Commitment",
    "CosineWarmup",
    "CyclicWarmup",
    "FactorVAE",
    "FreeBits",
    "KLPenalty",
    "KLPlan",
    "KLWeight",
    "LinearWarmup",
    "Penalty",
    "SigmoidWarmup",
    "TotalCorrelation",
]

take_plain_numbers(globals(), __all__)
