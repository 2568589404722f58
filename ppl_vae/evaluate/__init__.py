"""Evaluate: how good a pair is on data: bounds, log-likelihood, active units, and the three together."""

from ppl_vae.evaluate.active_units import ActiveUnits, active_units
from ppl_vae.evaluate.bounds import Bounds, bounds
from ppl_vae.evaluate.log_likelihood import LogLikelihood, log_likelihood
from ppl_vae.evaluate.summary import Summary, summary

__all__ = [
    "ActiveUnits",
    "Bounds",
    "LogLikelihood",
    "Summary",
    "active_units",
    "bounds",
    "log_likelihood",
    "summary",
]
