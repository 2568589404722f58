"""AfterTraining: the result of a comparison of trained pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray
from matplotlib.axes import Axes

from ppl_vae.comparison import plots
from ppl_vae.comparison.job import Job, Score
from ppl_vae.comparison.lower_bounds import lower_bounds, unreliable_shares
from ppl_vae.comparison.storage import load_dataset, save_dataset
from ppl_vae.evaluate.k_hat import k_hat_limit
from ppl_vae.evaluate.lines import plus_minus

_CURVES = ("step", "seconds", "train_bound", "train_elbo", "valid_bound", "valid_elbo")


_PER_DATUM = {"log_likelihood_per_datum": "log_likelihood", "k_hat": "k_hat", "ess": "ess"}


class Difference(NamedTuple):
    """A difference in log p(x), nats per datum, and its standard error over data and seeds."""

    value: float
    standard_error: float

    @property
    def sigmas(self) -> float:
        """How many standard errors it is from zero."""
        return self.value / self.standard_error if self.standard_error > 0 else math.nan

    def __str__(self) -> str:
        return f"{plus_minus(self.value, self.standard_error)} nats ({self.sigmas:.1f} standard errors)"


@dataclass(frozen=True, eq=False)
class AfterTraining:
    """What `comparison.after_training` found; a run that failed has NaN.

    Attributes:
        dataset: by `estimator`, `seed` and `datum`: `log_likelihood_per_datum`, `k_hat`, `ess`; by estimator
            and seed: `log_likelihood`, `elbo`, `reconstruction`, `seconds_total`, `epochs`, and by
            `site` too: `kl`, `active_units`; by `epoch` too, the training curves: `step`, `seconds`
            (from the start), `train_bound`, `train_elbo`, `valid_elbo`, ...; by estimator:
            `standard_error_data`, `standard_error_seeds`, and `difference` in log p(x) from the first
            estimator and `difference_from_best`, with their standard errors. Nats per datum. Its
            attributes are the settings and, as JSON, what `failures` gives.
    """

    dataset: xarray.Dataset

    @classmethod
    def of(cls, jobs: Sequence[Job], scores: Sequence[Score]) -> AfterTraining:
        """A result from its runs."""
        names = list(dict.fromkeys(job.name for job in jobs))
        seeds = list(dict.fromkeys(job.seed for job in jobs))
        sites = list(dict.fromkeys(key[3:] for s in scores for key in s.arrays if key.startswith("kl_")))
        num_data = max([len(s.arrays["log_likelihood"]) for s in scores if s.arrays], default=0)
        num_epochs = max(len(s.history) for s in scores)
        where = [(names.index(job.name), seeds.index(job.seed)) for job in jobs]

        def blank(*shape: int) -> np.ndarray:
            return np.full((len(names), len(seeds), *shape), np.nan)

        data: dict[str, tuple[list[str], np.ndarray]] = {}
        dims = ["estimator", "seed"]
        for variable, source in _PER_DATUM.items():
            data[variable] = ([*dims, "datum"], blank(num_data))
            for at, score in zip(where, scores, strict=True):
                if source in score.arrays:
                    data[variable][1][at] = score.arrays[source]
        for variable in ("elbo", "reconstruction", "monte_carlo_standard_error"):
            data[variable] = (dims, blank())
            for at, score in zip(where, scores, strict=True):
                data[variable][1][at] = score.arrays.get(variable, np.nan)
        for variable, prefix in (("kl", "kl_"), ("active_units", "active_")):
            data[variable] = ([*dims, "site"], blank(len(sites)))
            for at, score in zip(where, scores, strict=True):
                data[variable][1][at] = [score.arrays.get(prefix + site, np.nan) for site in sites]
        present = [name for name in _CURVES if any(name in s.history for s in scores)]
        curves = {name: blank(num_epochs) for name in present}
        totals, epochs = blank(), blank()
        for at, score in zip(where, scores, strict=True):
            for name in set(present) & set(score.history):
                values = score.history[name].to_numpy(dtype=float)
                curves[name][at][: len(values)] = values.cumsum() if name == "seconds" else values
            if len(score.history):
                totals[at], epochs[at] = score.history["seconds"].sum(), len(score.history)
        data |= {name: ([*dims, "epoch"], values) for name, values in curves.items()}
        data |= {"seconds_total": (dims, totals), "epochs": (dims, epochs)}
        first = jobs[0]
        dataset = xarray.Dataset(
            data,
            coords={"estimator": names, "seed": seeds, "site": sites, "epoch": range(1, num_epochs + 1)},
            attrs={
                "judge_particles": first.judging.num_particles,
                "judge_seed": first.judging.seed,
                "budget": f"{first.epochs} epochs"
                if first.epochs is not None
                else f"{first.seconds:g} seconds",
                "options": json.dumps({name: str(value) for name, value in first.options.items()}),
                "failures": json.dumps(
                    {
                        f"{j.name}, seed {j.seed}": s.failure
                        for j, s in zip(jobs, scores, strict=True)
                        if s.failure
                    }
                ),
            },
        )
        return cls(dataset.assign(_statistics(data["log_likelihood_per_datum"][1])))

    @property
    def failures(self) -> dict[str, str]:
        """The runs that failed, and why."""
        known: dict[str, str] = json.loads(self.dataset.attrs["failures"])
        return known

    @property
    def table(self) -> pd.DataFrame:
        """One row for each estimator, in the order given.

        `nll` is -log p(x); `difference` is how much higher log p(x) is than the first estimator's, and
        `sigmas` how many standard errors that is; `k_hat_high` is the share of data with a k-hat above what
        the number of particles allows, and `lower_bound` whether that makes log p(x) a lower bound and no
        more.
        """
        rows = []
        shares, bounded = unreliable_shares(self.dataset), lower_bounds(self.dataset)
        for name, share, is_bound in zip(self.dataset.estimator.values, shares, bounded, strict=True):
            run = self.dataset.sel(estimator=name)
            error = float(run.difference_standard_error)
            row: dict[str, Any] = {
                "estimator": str(name),
                "nll": -float(run.log_likelihood.mean("seed")),
                "standard_error_data": float(run.standard_error_data),
                "standard_error_seeds": float(run.standard_error_seeds),
                "difference": float(run.difference),
                "difference_standard_error": error,
                "sigmas": float(run.difference) / error if error > 0 else math.nan,
                "elbo": float(run.elbo.mean("seed")),
            }
            for site in self.dataset.site.values:
                row[f"kl_{site}"] = float(run.kl.sel(site=site).mean("seed"))
                row[f"active_{site}"] = float(run.active_units.sel(site=site).mean("seed"))
            row["k_hat_high"], row["lower_bound"] = share, is_bound
            row["epochs"] = float(run.epochs.mean("seed"))
            row["seconds"] = float(run.seconds_total.mean("seed"))
            row["seeds"] = int(run.log_likelihood.notnull().sum())
            rows.append(row)
        return pd.DataFrame(rows)

    def difference(self, better: str, worse: str) -> Difference:
        """How much higher log p(x) is under one estimator's training than under another's,
        paired by datum and seed.

        Raises:
            KeyError: for a name that is not in the result.
        """
        per_datum = self.dataset.log_likelihood_per_datum
        apart = (per_datum.sel(estimator=better) - per_datum.sel(estimator=worse)).values
        data, seeds = _errors(apart)
        return Difference(_mean(apart.mean(-1)), math.hypot(data, _known(seeds)))

    def plot_curves(self, against: str = "step", measure: str = "auto", ax: Axes | None = None) -> Axes:
        """Training curves against the "step" or the "seconds"; the validation ELBO where there is one."""
        return plots.curves(self.dataset, against, measure, ax)

    def plot_scores(self, ax: Axes | None = None) -> Axes:
        """A forest plot of the final scores, the best at the top."""
        return plots.scores(self.dataset, ax)

    def save(self, path: str | Path) -> Path:
        """Write the dataset as netCDF, atomically."""
        return save_dataset(self.dataset, path)

    @classmethod
    def load(cls, path: str | Path) -> AfterTraining:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: for a file that is none.
        """
        return cls(load_dataset(path, needs=("log_likelihood_per_datum", "difference_from_best")))

    def __str__(self) -> str:
        attributes = self.dataset.attrs
        table, size = self.table, int(attributes["judge_particles"])
        shown = pd.DataFrame(
            {
                "estimator": table["estimator"],
                "-log p(x)": [
                    "≤ " * row.lower_bound
                    + plus_minus(
                        row.nll, math.hypot(row.standard_error_data, _known(row.standard_error_seeds))
                    )
                    + " !" * row.lower_bound
                    for row in table.itertuples()
                ],
                f"better than {table['estimator'][0]}": [
                    plus_minus(row.difference, row.difference_standard_error) if row.Index else ""
                    for row in table.itertuples()
                ],
                "sigmas": [f"{row.sigmas:.1f}" if row.Index else "" for row in table.itertuples()],
                "ELBO": table["elbo"].map("{:.2f}".format),
                **{
                    name: table[name].map("{:.4g}".format)
                    for name in table
                    if name.startswith(("kl_", "active_"))
                },
                f"k-hat > {k_hat_limit(size):.2g}": table["k_hat_high"].map("{:.1%}".format),
                "epochs": table["epochs"].map("{:g}".format),
                "seconds": table["seconds"].map("{:.3g}".format),
            }
        )
        count = self.dataset.sizes["seed"]
        alone = (
            ""
            if count > 1
            else "\none seed: the errors are those over the data, and say nothing of other seeds"
        )
        head = (
            f"after training, {attributes['budget']} each, {count} {'seed' if count == 1 else 'seeds'}; "
            f"judged on {self.dataset.sizes['datum']:,} data with K = {size:,}; nats per datum"
        )
        failed = "".join(f"\nfailed: {run}: {why}" for run, why in self.failures.items())
        marked = (
            "\n! a lower bound on log p(x): k-hat is too high, or K too small for it. How much better such a "
            "run is may change with K: raise judge_particles"
            if table["lower_bound"].any()
            else ""
        )
        return f"{head}\n{shown.to_string(index=False)}{marked}{alone}{failed}"


def _statistics(per_datum: np.ndarray) -> dict[str, tuple[list[str], np.ndarray]]:
    """Means, standard errors and paired differences of (estimators, seeds, data)."""
    scores = per_datum.mean(-1)
    own = [_errors(each) for each in per_datum]
    means = np.array([_mean(each) for each in scores])
    best = int(np.nanargmax(means)) if np.isfinite(means).any() else 0
    by = ["estimator"]
    result: dict[str, tuple[list[str], np.ndarray]] = {
        "log_likelihood": (["estimator", "seed"], scores),
        "standard_error_data": (by, np.array([data for data, _ in own])),
        "standard_error_seeds": (by, np.array([seeds for _, seeds in own])),
    }
    for name, other in (("difference", 0), ("difference_from_best", best)):
        apart = [each - per_datum[other] for each in per_datum]
        errors = [_errors(each) for each in apart]
        result[name] = (by, np.array([_mean(each.mean(-1)) for each in apart]))
        total = np.array([math.hypot(data, _known(seeds)) for data, seeds in errors])
        result[f"{name}_standard_error"] = (by, total)
    return result


def _errors(values: np.ndarray) -> tuple[float, float]:
    """The standard errors of the mean of (seeds, data), across data and across seeds;
    failed seeds left out.
    """
    values = values[np.isfinite(values).all(1)]
    num_seeds, num_data = values.shape
    if num_seeds == 0:
        return math.nan, math.nan
    across_data = values.mean(0).std(ddof=1) / math.sqrt(num_data) if num_data > 1 else math.nan
    across_seeds = values.mean(1).std(ddof=1) / math.sqrt(num_seeds) if num_seeds > 1 else math.nan
    return float(across_data), float(across_seeds)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value
