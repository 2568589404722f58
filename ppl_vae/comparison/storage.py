"""Datasets on disk: netCDF, written atomically."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xarray

from ppl_vae.evaluate.arviz_support import ENGINE
from ppl_vae.runs import atomic_write


def save_dataset(dataset: xarray.Dataset, path: str | Path) -> Path:
    """Write a dataset; whoever looks finds the old file or the new."""
    atomic_write(path, lambda temporary: dataset.to_netcdf(str(temporary), engine=ENGINE))  # type: ignore[call-overload]
    return Path(path)


def load_dataset(path: str | Path, needs: Sequence[str]) -> xarray.Dataset:
    """Read a dataset into memory.

    Args:
        needs: variables that it must have.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or one without those variables.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    try:
        dataset = xarray.load_dataset(path, engine=ENGINE)
    except Exception as error:  # h5netcdf, h5py and xarray each have their own words for a broken file
        raise ValueError(
            f"{str(path)!r} cannot be read as netCDF ({type(error).__name__}: {error})"
        ) from error
    if missing := [name for name in needs if name not in dataset]:
        raise ValueError(f"{str(path)!r} is not such a result: it lacks {missing}, and has {list(dataset)}")
    return dataset
