"""Training: `fit`, its options, one gradient step as written or captured, optimizers, loggers, precision."""

from ppl_vae.train.finish import Run, TrainingError
from ppl_vae.train.fitting import fit
from ppl_vae.train.guide_first import GuideFirst
from ppl_vae.train.options import FitOptions
from ppl_vae.train.refit import Refit, refit_prior

__all__ = ["FitOptions", "GuideFirst", "Refit", "Run", "TrainingError", "fit", "refit_prior"]
