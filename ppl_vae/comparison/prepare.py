"""Before a comparison's first run: options, pair and estimators checked, the runs written down as jobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pyro.infer import ELBO as PyroELBO
from torch import Tensor

from ppl_vae.comparison.factories import Estimators, objects
from ppl_vae.comparison.job import Job, Judging, MakePair, initial_pair
from ppl_vae.core.checks import check_count, check_real, check_seed
from ppl_vae.core.isolation import random_numbers
from ppl_vae.core.missing import takes_missing
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError
from ppl_vae.data import DataSet, Split, as_split, for_pair
from ppl_vae.data.gaps import example_of
from ppl_vae.data.known_table import of_table
from ppl_vae.testing.linter import check_estimator_for
from ppl_vae.testing.site_facts import read_sites
from ppl_vae.train.options import NAMES, PER_RUN, FitOptions, check_beside


def make_jobs(
    make_pair: MakePair,
    estimators: Estimators,
    data: DataSet | Split | Tensor,
    *,
    epochs: int | None,
    seconds: float | None,
    seeds: Sequence[int],
    judge_on: Split | Tensor | None,
    judge_particles: int,
    judge_seed: int,
    run_dir: str | Path,
    **fit_options: Any,
) -> list[Job]:
    """The runs of a comparison, estimator by estimator, checked and not yet run."""
    _check_budget(epochs, seconds, fit_options)
    check_count("judge_particles", judge_particles)
    check_seed("judge_seed", judge_seed)
    seeds = _checked_seeds(seeds)
    judge_on = _data_to_judge_on(judge_on, data)
    made = objects(estimators)
    for estimator in made.values():
        _check_fit_options(estimator, data, fit_options)
    pair = initial_pair(make_pair, seeds[0])
    source = for_pair(data if isinstance(data, DataSet) else as_split(data, takes_missing(pair.model)), pair)
    pair.schema = (source.train if isinstance(source, DataSet) else source).naming.schema
    with random_numbers(judge_seed, torch.device("cpu")):
        parts = (source.train, source.valid) if isinstance(source, DataSet) else (source, None)
        example = example_of(*parts, 8)
        test = for_pair(as_split(of_table(judge_on, pair), takes_missing(pair.model)), pair)
        # binarised once, so that all runs are judged on the same bits
        judging = Judging(test.tensors() if test.dynamic else test, judge_particles, judge_seed)
    if fit_options.get("check", True):
        _check_pair(pair, example, made.values())
    folders = _folders(Path(run_dir), list(made))
    return [
        Job(
            name,
            int(seed),
            make_pair,
            estimator,
            source,
            judging,
            folders[name] / f"seed-{seed}",
            epochs,
            seconds,
            fit_options,
        )
        for name, estimator in made.items()
        for seed in seeds
    ]


def _checked_seeds(seeds: Sequence[int]) -> list[int]:
    try:
        seeds = list(seeds)
    except TypeError as error:
        raise ValueError(f"seeds must be whole numbers, such as [0, 1, 2], got {seeds!r}") from error
    if not seeds or len(set(seeds)) != len(seeds) or not all(_is_seed(seed) for seed in seeds):
        raise ValueError(f"seeds must be different whole numbers, one at least, got {list(seeds)}")
    return seeds


def _data_to_judge_on(judge_on: Split | Tensor | None, data: DataSet | Split | Tensor) -> Split | Tensor:
    if judge_on is not None:
        return judge_on
    if not isinstance(data, DataSet):
        raise ValueError("what shall the runs be judged on? give judge_on=..., data that is not trained on")
    return data.test


def _check_pair(pair: Pair, example: Sequence[Tensor], estimators: Iterable[PyroELBO]) -> None:
    """Refuse estimators that are not valid for the pair, and pairs without a log p(x) of each datum."""
    batch = tuple(x.to(pair.device) for x in example)
    for estimator in estimators:
        check_estimator_for(pair, batch, estimator)
    if outside := read_sites(pair, batch).outside_data:
        raise PairError(
            "runs are judged by log p(x) of each datum, which does not exist while the sites "
            f"{list(outside)} outside the plate 'data' are shared by all data: move them into the plate, or "
            f"compare the estimators by comparison.at_point"
        )


def _folders(run_dir: Path, names: Sequence[str]) -> dict[str, Path]:
    """The folder of each estimator's runs."""
    folders = {name: re.sub(r"[^\w.=-]+", "-", name).strip("-") for name in names}
    if len(set(folders.values())) < len(folders):
        raise ValueError(
            f"the names {names} would share folders: choose names that differ in letters or digits"
        )
    return {name: run_dir / folder for name, folder in folders.items()}


def _check_fit_options(estimator: PyroELBO, data: Any, fit_options: Mapping[str, Any]) -> None:
    """Refuse what `fit` would, before the first run."""
    if unknown := sorted(set(fit_options) - set(NAMES)):
        raise ValueError(f"fit has no option {', '.join(map(repr, unknown))}: it takes {', '.join(NAMES)}")
    # each run has a folder, which the comparison gives it
    check_beside(FitOptions.of({**fit_options, "run_dir": ".", "epochs": 1}), estimator, data)


def _is_seed(seed: object) -> bool:
    try:
        check_seed("seed", seed)
    except ValueError:
        return False
    return True


def _check_budget(epochs: int | None, seconds: float | None, fit_options: Mapping[str, Any]) -> None:
    if (epochs is None) == (seconds is None):
        raise ValueError(
            f"give one budget, epochs=... or seconds=..., got epochs={epochs}, seconds={seconds}"
        )
    if epochs is not None:
        check_count("epochs", epochs)
    if seconds is not None:
        check_real("seconds", seconds, above=True)
        if fit_options.get("schedule", "constant") != "constant":
            raise ValueError(
                f"schedule={fit_options['schedule']!r} needs to know the number of steps: give epochs=... "
                f"instead of seconds=..., or schedule='constant'"
            )
    if taken := [name for name in ("pair", "estimator", "data", *PER_RUN) if name in fit_options]:
        raise ValueError(f"{taken} cannot be given: the comparison sets them itself, alike for all runs")
