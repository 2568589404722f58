"""The options of what comes after a training, checked before it."""

from __future__ import annotations

from pathlib import Path

import jsonargparse

from ppl_vae.cli.errors import UsageError
from ppl_vae.core.checks import check_count, check_real, check_seed
from ppl_vae.data import Split


def check_judging(options: jsonargparse.Namespace) -> None:
    """Refuse options of the evaluation and the report that they would refuse, hours later.

    Raises:
        UsageError: names the option and its value.
    """
    judging, report = options.evaluate, options.report
    try:
        for name in ("num_particles", "num_temperatures", "batch_size", "chunk"):
            if judging[name] is not None:
                check_count(f"--evaluate.{name}", judging[name])
        check_count("--evaluate.num_simulations", judging.num_simulations, least=0)
        check_real("--evaluate.threshold", judging.threshold)
        check_count("--report.num_data", report.num_data, least=0)
        check_count("--report.num_samples", report.num_samples)
        check_seed("--seed", options.seed)
    except ValueError as error:
        raise UsageError(str(error)) from error


def check_judged(split: Split, part: str) -> None:
    """Refuse data that are too few for the variance of a posterior mean over them."""
    if len(split) < 2:
        raise UsageError(
            f"the {part} part has {len(split)} datum, and to judge a pair takes two: give more data"
        )


def check_folder(path: str | Path, option: str) -> None:
    """Refuse a folder that is a file, or stands in one.

    Raises:
        UsageError: names the option and what stands in its way.
    """
    path = Path(path)
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise UsageError(f"{option} {path}: {place} is a file, so that there can be no such folder")
