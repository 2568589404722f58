"""Which log-likelihoods of a comparison may stand, and which are lower bounds and no more."""

from __future__ import annotations

import numpy as np
import torch
import xarray

from ppl_vae.evaluate.k_hat import share_above, why_lower_bound


def unreliable_shares(dataset: xarray.Dataset) -> list[float]:
    """For each estimator of `comparison.after_training`, the share of data whose k-hat is too high,
    over its seeds.
    """
    size = int(dataset.attrs["judge_particles"])
    found = (_judged(dataset, name)[0] for name in dataset.estimator.values)
    return [share_above(k_hat, size) if len(k_hat) else float("nan") for k_hat in found]


def lower_bounds(dataset: xarray.Dataset) -> list[bool]:
    """For each estimator of `comparison.after_training`,
    whether its log p(x) is a lower bound and no more.
    """
    size = int(dataset.attrs["judge_particles"])
    found = (_judged(dataset, name) for name in dataset.estimator.values)
    return [bool(len(k_hat) and why_lower_bound(k_hat, ess, size)) for k_hat, ess in found]


def _judged(dataset: xarray.Dataset, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """k-hat and effective sample size of all data and seeds but those of runs that failed."""
    run = dataset.sel(estimator=name)
    judged = np.isfinite(run.log_likelihood_per_datum.values)
    k_hat = run.k_hat.values[judged]
    # results that were stored by an earlier version have no `ess`
    ess = run.ess.values[judged] if "ess" in run else np.zeros_like(k_hat)
    return torch.from_numpy(k_hat), torch.from_numpy(ess)
