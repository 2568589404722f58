"""All contact with ArviZ, whose versions 0.x and 1.x differ: PSIS k-hat, and stored inference data."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray
from numpy.typing import NDArray
from torch import Tensor

from ppl_vae.core.isolation import one_thread

MIN_PARTICLES_FOR_K_HAT = 30
"""The tail is the largest fifth of a small sample: with fewer, ArviZ 1.x does not fit it."""

LOG_TINY = math.log(np.finfo(np.float64).tiny)

ENGINE = "h5netcdf"


@cache
@one_thread
def _arviz() -> Any:
    """ArviZ, imported when first needed: with its plots it takes as long as torch."""
    with warnings.catch_warnings():
        # ArviZ 0.23 announces its refactoring on every import
        warnings.simplefilter("ignore")
        import arviz
    return arviz


def k_hat(log_weight: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    r"""The Pareto shape of the importance weights' right tail, one for each row, as ArviZ fits it.

    Below 0.5 the estimate is good, up to 0.7 usable, above that unreliable. It is `nan` where there
    is no tail to fit: K < 30, or largest weights that are all equal to rounding (as with an exact
    guide or a discrete latent). It is `inf` where a tail is there and no Pareto distribution fits it:
    fewer than five weights carry everything, or none does.

    Args:
        log_weight: (N, K), unnormalised.

    Returns:
        (N,) k-hat.

    Vehtari et al., Pareto Smoothed Importance Sampling, arXiv:1507.02646; Yao et al., Yes, but Did It
    Work?, arXiv:1802.02538.

    >>> import numpy as np
    >>> log_weight = np.random.default_rng(0).standard_normal((2, 1000))
    >>> k_hat(np.stack([log_weight[0], 20 * log_weight[1]])) > 0.7
    array([False,  True])
    """
    result = np.full(len(log_weight), np.nan)
    num_particles = log_weight.shape[1]
    if num_particles < MIN_PARTICLES_FOR_K_HAT:
        return result
    largest = log_weight.max(axis=1)
    result[~np.isfinite(largest)] = np.inf
    tail = math.ceil(min(num_particles / 5, 3 * math.sqrt(num_particles)))
    cutoff = np.partition(log_weight, -tail, axis=1)[:, -tail]
    rounding = 64 * np.finfo(log_weight.dtype).eps * np.maximum(1.0, np.abs(largest))
    alive = (log_weight > largest[:, None] + LOG_TINY).sum(axis=1)
    with np.errstate(all="ignore"):
        has_tail = np.isfinite(largest) & (largest - cutoff > rounding)
        fitted = has_tail & (alive >= 5)
        result[has_tail & ~fitted] = np.inf
        if fitted.any():
            # ArviZ 1.x answers nan, and 0.x inf, to a tail that is far from a Pareto distribution's
            shape = _psis()(log_weight[fitted].astype(np.float64))[1]
            result[fitted] = np.nan_to_num(shape, nan=np.inf, posinf=np.inf)
    return result


def smoothed(log_weight: Tensor) -> tuple[Tensor, Tensor]:
    r"""Normalised importance weights whose largest are those of a Pareto tail, and its shape.

    Where `k_hat` fits no tail, the weights are normalised and stay as they are.

    Args:
        log_weight: (K, N), unnormalised.

    Returns:
        (K, N) log-weights, float64, whose exp sums to one over K; and (N,) k-hat.

    Vehtari et al., Pareto Smoothed Importance Sampling, arXiv:1507.02646.
    """
    rows = log_weight.double().T.contiguous().cpu().numpy()
    shape = k_hat(rows)
    fitted = np.isfinite(shape)
    with np.errstate(all="ignore"):  # NaN where no draw has a density
        plain = rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)
        if fitted.any():
            plain[fitted] = _psis()(rows[fitted])[0]
    return torch.from_numpy(plain).T.to(log_weight.device), torch.from_numpy(shape).to(log_weight.device)


@cache
def _psis() -> Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """From (N, K) log-weights to smoothed ones, and k-hat."""
    if _version() < 1:
        return lambda log_weight: _arviz().psislw(log_weight)

    from arviz_stats.base import array_stats  # type: ignore[import-not-found,unused-ignore]

    # ArviZ 1.x takes log-likelihoods, as leave-one-out cross-validation has them, and negates them
    return lambda log_weight: array_stats.psislw(-log_weight)


def chain_diagnostics(values: Tensor) -> tuple[Tensor, Tensor]:
    """R-hat and the effective sample size of draws, rank-normalised: the smaller one of bulk and tails.

    Args:
        values: (chains, draws, ...).

    Returns:
        (...) each; both are nan for fewer than four draws of a chain.

    Vehtari et al., Rank-normalization, folding, and localization, arXiv:1903.08008.
    """
    array = values.detach().double().cpu().numpy()
    if array.shape[1] < 4:
        unknown = torch.full(values.shape[2:], torch.nan, dtype=torch.float64)
        return unknown, unknown
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few draws, or a constant: nan says so
        if _version() < 1:
            data = xarray.Dataset({"x": (("chain", "draw", *map(str, range(array.ndim - 2))), array)})
            r_hat = _arviz().rhat(data)["x"].to_numpy()
            sizes = [_arviz().ess(data, method=method)["x"].to_numpy() for method in ("bulk", "tail")]
        else:
            from arviz_stats.base import array_stats  # type: ignore[import-not-found,unused-ignore]

            r_hat = array_stats.rhat(array, chain_axis=0, draw_axis=1)
            sizes = [
                array_stats.ess(array, chain_axis=0, draw_axis=1, **how)
                for how in ({"method": "bulk"}, {"method": "tail", "prob": (0.05, 0.95)})
            ]
    return torch.from_numpy(np.array(r_hat)), torch.from_numpy(np.minimum(*sizes))


def _version() -> int:
    return int(_arviz().__version__.split(".")[0])


def to_inference_data(groups: Mapping[str, xarray.Dataset]) -> Any:
    """Datasets by group as an `arviz.InferenceData` (ArviZ 0.x) or an `xarray.DataTree` (1.x)."""
    if _version() < 1:
        return _arviz().InferenceData(**groups)
    return xarray.DataTree.from_dict(dict(groups))


def save_inference_data(inference_data: Any, path: str | Path) -> None:
    """Write inference data to a netCDF file."""
    inference_data.to_netcdf(str(path), engine=ENGINE)


def load_inference_data(path: str | Path) -> Any:
    """Read inference data from a netCDF file into memory, and close the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not inference data, or a damaged one.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    try:
        inference_data = _arviz().from_netcdf(str(path), engine=ENGINE)
        loaded = inference_data.load()
    except Exception as error:
        # h5netcdf, h5py and xarray each have their own words for a broken file
        raise ValueError(
            f"{str(path)!r} cannot be read as inference data ({type(error).__name__}: {error}); "
            f"write it again with save_inference_data"
        ) from error
    # 0.x gives None from load() and has closed the file; a DataTree keeps it open
    if loaded is not None:
        loaded.close()
        return loaded
    return inference_data
