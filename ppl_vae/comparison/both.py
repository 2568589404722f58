"""compare: both questions about a pair and some estimators, asked one after the other and kept apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import xarray
from torch import Tensor

from ppl_vae.comparison.factories import Estimators, families
from ppl_vae.comparison.job import MakePair
from ppl_vae.comparison.point import at_point
from ppl_vae.comparison.point_result import AtPoint
from ppl_vae.comparison.prepare import make_jobs
from ppl_vae.comparison.training_result import AfterTraining
from ppl_vae.comparison.trainings import folder_of_runs, run_jobs
from ppl_vae.core.checks import check_given
from ppl_vae.data import DataSet, Split
from ppl_vae.runs.owner import owned

_FILES = ("after_training.nc", "at_point.nc")


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found: the scores of trained pairs,
    and the estimators at one trained pair's parameters.
    """

    after_training: AfterTraining
    at_point: AtPoint

    @property
    def table(self) -> pd.DataFrame:
        """The scores after training; the gradients' table is `at_point.table`."""
        return self.after_training.table

    @property
    def dataset(self) -> xarray.DataTree:
        """Both datasets, in the groups `after_training` and `at_point`."""
        return xarray.DataTree.from_dict(
            {"after_training": self.after_training.dataset, "at_point": self.at_point.dataset}
        )

    def save(self, folder: str | Path) -> Path:
        """Write `after_training.nc` and `at_point.nc` to a folder."""
        self.after_training.save(Path(folder) / _FILES[0])
        self.at_point.save(Path(folder) / _FILES[1])
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Comparison:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: when a file is missing.
            ValueError: when one is damaged.
        """
        return cls(AfterTraining.load(Path(folder) / _FILES[0]), AtPoint.load(Path(folder) / _FILES[1]))

    def __str__(self) -> str:
        return f"{self.after_training}\n\n{self.at_point}"


def compare(
    make_pair: MakePair,
    estimators: Estimators,
    data: DataSet | Split | Tensor,
    *,
    epochs: int | None = None,
    seconds: float | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    judge_on: Split | Tensor | None = None,
    judge_particles: int = 1000,
    judge_seed: int = 0,
    run_dir: str | Path | None = None,
    n_jobs: int = 1,
    point: Mapping[str, Any] | None = None,
    progress: bool = True,
    **fit_options: Any,
) -> Comparison:
    """Train a pair with each estimator, and then look at all of them where the first one ended.

    The point is the pair that the first estimator trained with the first seed. With `run_dir` the
    result is written there too, and `Comparison.load` reads it.

    Args:
        point: arguments of `comparison.at_point`, such as `{"num_particles": [1, 10, 100]}`; the
            others are those of `comparison.after_training`.

    Raises:
        PairError, ValueError, RunError: as those two.
        TypeError: for an option that `at_point` does not have, before anything is trained.
    """
    check_given(at_point, point or {}, draws=10, reference_draws=0)
    with folder_of_runs(run_dir, fit_options) as folder, owned(folder):
        jobs = make_jobs(
            make_pair, estimators, data, epochs=epochs, seconds=seconds, seeds=seeds, judge_on=judge_on,
            judge_particles=judge_particles, judge_seed=judge_seed, run_dir=folder, **fit_options,
        )  # fmt: skip
        trained = run_jobs(jobs, n_jobs=n_jobs, progress=progress)
        options = {"seed": judge_seed, "progress": progress, **(point or {})}
        result = Comparison(
            trained, at_point(jobs[0].trained_pair(), _without_names(estimators), jobs[0].data, **options)
        )
        result.save(folder)
        return result


def _without_names(estimators: Estimators) -> Estimators:
    """The objects of a mapping, whose names ("IWAE(50)") are of one K;
    as it is where they need their names.
    """
    if not isinstance(estimators, Mapping):
        return estimators
    try:
        families(list(estimators.values()))
    except ValueError:
        return estimators
    return list(estimators.values())
