"""Datasets on disk: netCDF, written atomically, with a checksum behind what HDF5 reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import xarray

from ppl_vae.evaluate.arviz_support import ENGINE
from ppl_vae.runs import atomic_write

_SEAL = re.compile(rb"\n# sha256: ([0-9a-f]{64})\n\Z")  # HDF5 knows where its own content ends


def save_dataset(dataset: xarray.Dataset, path: str | Path) -> Path:
    """Write a dataset; whoever looks finds the old file or the new."""

    def write(temporary: Path) -> None:
        dataset.to_netcdf(str(temporary), engine=ENGINE)  # type: ignore[call-overload]
        with open(temporary, "r+b") as file:
            file.write(b"\n# sha256: %s\n" % hashlib.sha256(file.read()).hexdigest().encode())

    atomic_write(path, write)
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
    sealed = _SEAL.search(content := Path(path).read_bytes())
    if sealed is not None and hashlib.sha256(content[: sealed.start()]).hexdigest().encode() != sealed[1]:
        raise ValueError(
            f"{str(path)!r} does not have the checksum at its end: it is damaged. Restore it from a copy, or "
            f"make the comparison again, which repeats no finished run"
        )
    try:
        dataset = xarray.load_dataset(path, engine=ENGINE)
    except Exception as error:  # h5netcdf, h5py and xarray each have their own words for a broken file
        raise ValueError(
            f"{str(path)!r} cannot be read as netCDF ({type(error).__name__}: {error})"
        ) from error
    if missing := [name for name in needs if name not in dataset]:
        raise ValueError(f"{str(path)!r} is not such a result: it lacks {missing}, and has {list(dataset)}")
    return dataset
