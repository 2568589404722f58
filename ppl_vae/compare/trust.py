"""Which log-likelihoods of a comparison may stand, and which are lower bounds and no more."""

from __future__ import annotations

import numpy as np
import torch
import xarray

from ppl_vae.evaluate.trust import share_above, why_lower_bound


def unreliable_shares(dataset: xarray.Dataset) -> list[float]:
    """For each estimator of `compare.after_training`, the share of data whose k-hat is too high, over its seeds."""
    size = int(dataset.attrs["judge_particles"])
    shares = []
    for name in dataset.estimator.values:
        run = dataset.sel(estimator=name)
        judged = np.isfinite(run.log_likelihood_per_datum.values)  # a run that failed has none
        k_hat = torch.from_numpy(run.k_hat.values[judged])
        shares.append(share_above(k_hat, size) if judged.any() else float("nan"))
    return shares


def lower_bounds(dataset: xarray.Dataset) -> list[bool]:
    """For each estimator of `compare.after_training`, whether its log p(x) is a lower bound and no more."""
    size = int(dataset.attrs["judge_particles"])
    return [bool(why_lower_bound(share, size)) for share in unreliable_shares(dataset)]
