"""Estimators: bounds on the log-evidence as functions of the particles, one family a file."""

from ppl_vae.estimators.base import Estimator
from ppl_vae.estimators.elbo import ELBO, MeanFieldELBO
from ppl_vae.estimators.importance import IWAE, Renyi

__all__ = ["ELBO", "IWAE", "Estimator", "MeanFieldELBO", "Renyi"]
