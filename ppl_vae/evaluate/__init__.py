"""Evaluate: how good a pair is on data: bounds, log-likelihood, active units, and the three together; and
whether guide and model are right."""

from ppl_vae.evaluate.activity import ActiveUnits, active_units
from ppl_vae.evaluate.anomaly_scores import Anomaly, anomaly
from ppl_vae.evaluate.bidirectional import Sandwich, sandwich
from ppl_vae.evaluate.bounds_on_data import Bounds, bounds
from ppl_vae.evaluate.clusters import Clustering, clustering
from ppl_vae.evaluate.disentangled import Disentanglement, disentanglement
from ppl_vae.evaluate.gap import InferenceGap, inference_gap
from ppl_vae.evaluate.importance_sampling import LogLikelihood, log_likelihood
from ppl_vae.evaluate.imputation import impute
from ppl_vae.evaluate.imputations import Imputations
from ppl_vae.evaluate.labels import Classification, classification
from ppl_vae.evaluate.latent_posterior import posterior
from ppl_vae.evaluate.overview import Summary, summary
from ppl_vae.evaluate.predictive_checks import PredictiveCheck, predictive_check
from ppl_vae.evaluate.prior_holes import Holes, holes
from ppl_vae.evaluate.quality_of_samples import SampleQuality, sample_quality
from ppl_vae.evaluate.shortfall import Shortfall
from ppl_vae.evaluate.simulation_calibration import Calibration, calibration
from ppl_vae.evaluate.steps import PerStep, per_step
from ppl_vae.evaluate.surgery import ElboSurgery, SiteSurgery, elbo_surgery
from ppl_vae.evaluate.two_samples import TwoSample, two_sample

__all__ = [
    "ActiveUnits",
    "Anomaly",
    "Bounds",
    "Calibration",
    "Classification",
    "Clustering",
    "Disentanglement",
    "ElboSurgery",
    "Holes",
    "Imputations",
    "InferenceGap",
    "LogLikelihood",
    "PerStep",
    "PredictiveCheck",
    "SampleQuality",
    "Sandwich",
    "Shortfall",
    "SiteSurgery",
    "Summary",
    "TwoSample",
    "active_units",
    "anomaly",
    "bounds",
    "calibration",
    "classification",
    "clustering",
    "disentanglement",
    "elbo_surgery",
    "holes",
    "impute",
    "inference_gap",
    "log_likelihood",
    "per_step",
    "posterior",
    "predictive_check",
    "sample_quality",
    "sandwich",
    "summary",
    "two_sample",
]
