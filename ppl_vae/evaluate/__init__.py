"""Evaluate: how good a pair is on data: bounds, log-likelihood, active units, and the three together."""

from ppl_vae.evaluate.active_units import ActiveUnits, active_units
from ppl_vae.evaluate.bounds import Bounds, bounds
from ppl_vae.evaluate.elbo_surgery import ElboSurgery, SiteSurgery, elbo_surgery
from ppl_vae.evaluate.holes import Holes, holes
from ppl_vae.evaluate.inference_gap import InferenceGap, inference_gap
from ppl_vae.evaluate.log_likelihood import LogLikelihood, log_likelihood
from ppl_vae.evaluate.summary import Summary, summary

__all__ = [
    "ActiveUnits",
    "Bounds",
    "ElboSurgery",
    "Holes",
    "InferenceGap",
    "LogLikelihood",
    "SiteSurgery",
    "Summary",
    "active_units",
    "bounds",
    "elbo_surgery",
    "holes",
    "inference_gap",
    "log_likelihood",
    "summary",
]
