"""Contracts as checks, for a user's own pairs and estimators too.

`check_pair` holds a pair to its contract, `check_estimator` an estimator to what it says of itself, on the
pairs of `oracles`, whose truth is known; `check_estimator_for` and `valid_estimators` say which estimator
means something for which pair, and why not; `PretendedCuda` shows without a GPU what would fail on one.
"""

from ppl_vae.testing.estimators import EstimatorError, EstimatorReport, check_estimator
from ppl_vae.testing.linter import check_estimator_for, valid_estimators
from ppl_vae.testing.pairs import PairReport, check_pair
from ppl_vae.testing.pretended_cuda import PretendedCuda

__all__ = [
    "EstimatorError",
    "EstimatorReport",
    "PairReport",
    "PretendedCuda",
    "check_estimator",
    "check_estimator_for",
    "check_pair",
    "valid_estimators",
]
