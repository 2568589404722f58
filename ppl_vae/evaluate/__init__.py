"""Evaluate: how good a pair is on data: bounds, log-likelihood, active units, and the three together."""

from ppl_vae.evaluate.activity import ActiveUnits, active_units
from ppl_vae.evaluate.bounds_on_data import Bounds, bounds
from ppl_vae.evaluate.gap import InferenceGap, inference_gap
from ppl_vae.evaluate.importance_sampling import LogLikelihood, log_likelihood
from ppl_vae.evaluate.overview import Summary, summary
from ppl_vae.evaluate.prior_holes import Holes, holes
from ppl_vae.evaluate.steps import PerStep, per_step
from ppl_vae.evaluate.surgery import ElboSurgery, SiteSurgery, elbo_surgery

__all__ = [
    "ActiveUnits",
    "Bounds",
    "ElboSurgery",
    "Holes",
    "InferenceGap",
    "LogLikelihood",
    "PerStep",
    "SiteSurgery",
    "Summary",
    "active_units",
    "bounds",
    "elbo_surgery",
    "holes",
    "inference_gap",
    "log_likelihood",
    "per_step",
    "summary",
]
