"""Compare: estimators side by side, at a point of the parameters and after training: two questions."""

from ppl_vae.compare.after_training import after_training
from ppl_vae.compare.at_point import at_point
from ppl_vae.compare.both import Comparison, compare
from ppl_vae.compare.point_result import AtPoint
from ppl_vae.compare.training_result import AfterTraining

__all__ = ["AfterTraining", "AtPoint", "Comparison", "after_training", "at_point", "compare"]
