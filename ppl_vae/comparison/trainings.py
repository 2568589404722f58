"""After training: estimators from the same start, on the same budget, judged by one measure."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from ppl_vae.comparison.factories import Estimators
from ppl_vae.comparison.job import Job, MakePair, Score
from ppl_vae.comparison.prepare import make_jobs
from ppl_vae.comparison.training_result import AfterTraining
from ppl_vae.comparison.workers import in_processes
from ppl_vae.data import DataSet, Split
from ppl_vae.runs import RunFolder
from ppl_vae.runs.naming import warn_of_local
from ppl_vae.terminal.interrupts import Terminated, sigterm_raises
from ppl_vae.terminal.progress import show_progress


def after_training(
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
    progress: bool = True,
    **fit_options: Any,
) -> AfterTraining:
    r"""Train a pair with each estimator and several seeds, and judge all by the same -log p(x).

    Runs of one seed start from the same weights, `make_pair(seed)`, see the data in the same order and
    have the same budget. Each is judged on the same data by importance sampling with the same K and
    the same noise. With :math:`\ell_{si}` the log-likelihood of datum i in the run of seed s, the score is
    its mean over both, and the standard errors are

    .. math:: \mathrm{SE}_{\mathrm{data}}
        = \mathrm{sd}_i\Bigl(\tfrac1S \sum_s \ell_{si}\Bigr) / \sqrt{N}, \qquad
        \mathrm{SE}_{\mathrm{seeds}} = \mathrm{sd}_s\Bigl(\tfrac1N \sum_i \ell_{si}\Bigr) / \sqrt{S}

    Differences between estimators are taken by datum and seed first, which cancels what data and seeds
    have in common; their standard error is the root of the sum of the two squares (of the first alone
    with one seed, which says nothing of other seeds).

    With `run_dir` every run has a folder, `<run_dir>/<estimator>/seed-<s>`. The same call again repeats
    no finished run, continues half ones from their last checkpoint, and adds estimators and seeds that
    are new. Independent runs go in parallel by joblib: `n_jobs` processes here, or the workers of a
    backend chosen around the call, which see the same `run_dir`::

        with joblib.parallel_config(backend="dask"):  # or "ray"; after dask.distributed.Client(...)
            result = comparison.after_training(..., n_jobs=-1)

    Give each worker one thread (`Client(n_workers=8, threads_per_worker=1)`): torch's random numbers
    are one stream for all threads of a process.

    Args:
        make_pair: a seed to an untrained pair; torch is seeded with it. For processes it must be
            importable or defined in a notebook.
        estimators: objects, or a mapping of names to objects; a class stands for its defaults.
        data: a `DataSet`, or a `Split` or tensor to train on, with `judge_on`.
        epochs: the budget of each run, passes over the data, which is steps.
        seconds: instead of `epochs`, seconds of training without validation, counted in whole epochs;
            needs `schedule="constant"`. Leave each run cores of its own, or the clock is not fair.
        seeds: one run for each and each estimator.
        judge_on: what the runs are judged on; the test part of a data set by default.
        judge_particles: K of the log-likelihood.
        judge_seed: of the judging's noise, and of the binarisation of dynamic data.
        run_dir: where the runs are kept; None forgets them.
        n_jobs: runs at a time; -1 for as many as there are cores.
        progress: show a progress bar over the runs.
        **fit_options: other options of `fit`, for all runs: `batch_size`, `learning_rate`, `kl`, ...

    Raises:
        PairError: for an estimator that is not valid for the pair; names the site and valid ones.
        ValueError: without a budget or with two, without data to judge on, without seeds.
        RunError: for a folder that holds a run with other settings.

    >>> import torch
    >>> from ppl_vae import Pair, estimators, guides, models, nets
    >>> from ppl_vae import comparison
    >>> def make_pair(seed):
    ...     return Pair(models.LinearGaussian(1, 2), guides.MeanField(nets.MLPEncoder((2,), 1, hidden=())))
    >>> x = torch.randn(40, 2)
    >>> result = comparison.after_training(
    ...     make_pair, [estimators.ELBO(), estimators.IWAE(5)], x, judge_on=x, judge_particles=50,
    ...     epochs=1, seeds=[0], progress=False, device="cpu",
    ... )
    >>> result.table["estimator"].tolist()
    ['ELBO(1)', 'IWAE(5)']
    """
    with folder_of_runs(run_dir, fit_options) as folder:
        jobs = make_jobs(
            make_pair, estimators, data, epochs=epochs, seconds=seconds, seeds=seeds, judge_on=judge_on,
            judge_particles=judge_particles, judge_seed=judge_seed, run_dir=folder, **fit_options,
        )  # fmt: skip
        return run_jobs(jobs, n_jobs=n_jobs, progress=progress)


@contextmanager
def folder_of_runs(run_dir: str | Path | None, fit_options: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of a comparison's runs: the user's, or one for as long as it takes.

    Warns of functions that a later call could not recognise. Whoever stops it, by Ctrl-C or SIGTERM, is told
    how it goes on.
    """
    if run_dir is None:
        with sigterm_raises(), tempfile.TemporaryDirectory(prefix="ppl_vae-compare-") as folder:
            yield Path(folder)
        return
    warn_of_local(fit_options, "these runs cannot be continued there", stacklevel=5)
    again = f"the same call with run_dir={str(run_dir)!r} goes on from there"
    try:
        with sigterm_raises():
            yield RunFolder(run_dir).path
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"{error}; {again}" if str(error) else again) from None
    except Terminated:
        print(f"terminated: {again}", file=sys.stderr)
        raise


def run_jobs(jobs: Sequence[Job], *, n_jobs: int, progress: bool) -> AfterTraining:
    """Run what has not been run, several at a time, and gather the scores."""
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs == 0:
        raise ValueError(f"n_jobs must be a whole number, -1 for as many as there are cores, got {n_jobs!r}")
    scores: dict[int, Score] = {}
    with show_progress(len(jobs), "compare", "runs", show=progress, leave=True) as bar:
        for number, score in _each(jobs, n_jobs):
            scores[number] = score
            bar.describe(f"{jobs[number].name}, seed {jobs[number].seed}")
            bar.update()
    return AfterTraining.of(jobs, [scores[number] for number in range(len(jobs))])


def _each(jobs: Sequence[Job], n_jobs: int) -> Iterator[tuple[int, Score]]:
    if n_jobs != 1:
        return in_processes(jobs, n_jobs)
    return ((number, job.run()) for number, job in enumerate(jobs))
