"""Compare: estimators side by side, at a point of the parameters and after training: two questions."""

from ppl_vae.comparison.both import Comparison, compare
from ppl_vae.comparison.point import at_point
from ppl_vae.comparison.point_result import AtPoint
from ppl_vae.comparison.training_result import AfterTraining
from ppl_vae.comparison.trainings import after_training

__all__ = ["AfterTraining", "AtPoint", "Comparison", "after_training", "at_point", "compare"]

# as they were written before `comparison` had a name of its own
compare.at_point = at_point  # type: ignore[attr-defined]
compare.after_training = after_training  # type: ignore[attr-defined]
