"""Estimators: bounds on the log-evidence as functions of the particles, one family a file."""

from ppl_vae.core.plain_numbers import take_plain_numbers
from ppl_vae.estimators.antithetic import ARM, DisARM
from ppl_vae.estimators.base import Estimator, auxiliary_of, ours
from ppl_vae.estimators.chi_square import CUBO
from ppl_vae.estimators.debiased import JVI, SUMO
from ppl_vae.estimators.elbo import ELBO, MeanFieldELBO
from ppl_vae.estimators.enumerated import EnumeratedELBO
from ppl_vae.estimators.facts import Facts
from ppl_vae.estimators.grouped import CIWAE, MIWAE, PIWAE
from ppl_vae.estimators.importance import IWAE, Renyi
from ppl_vae.estimators.pathwise import STL, DReG
from ppl_vae.estimators.relax import RELAX
from ppl_vae.estimators.relaxed_control import REBAR
from ppl_vae.estimators.score_function import NVIL, VIMCO, ScoreFunction
from ppl_vae.estimators.thermodynamic import TVO
from ppl_vae.estimators.wake_sleep import ReweightedWakeSleep

__all__ = [
    "ARM",
    "CIWAE",
    "CUBO",
    "ELBO",
    "IWAE",
    "JVI",
    "MIWAE",
    "NVIL",
    "PIWAE",
    "REBAR",
    "RELAX",
    "STL",
    "SUMO",
    "TVO",
    "VIMCO",
    "DReG",
    "DisARM",
    "EnumeratedELBO",
    "Estimator",
    "Facts",
    "MeanFieldELBO",
    "Renyi",
    "ReweightedWakeSleep",
    "ScoreFunction",
    "auxiliary_of",
    "ours",
]

take_plain_numbers(globals(), __all__)
