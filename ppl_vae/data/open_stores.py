"""`.h5` and `.zarr` files, opened, and the arrays in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ppl_vae.data.blocks import needed
from ppl_vae.data.data_error import DataError


def open_store(path: Path) -> Any:
    """The root of a `.h5` or `.zarr` file, for reading.

    Raises:
        DataError: damaged, or of another format.
        ImportError: `.zarr` without the package zarr.
    """
    try:
        if path.suffix.lower() == ".zarr":
            return needed("zarr", path).open(path, mode="r")
        import h5py

        return h5py.File(path, "r")
    except ImportError:
        raise
    except Exception as error:  # a damaged file may be anything
        raise DataError(f"{path} cannot be read as {path.suffix} ({error}); write it anew") from error


def close(root: Any) -> None:
    """Let go of an open file, so that it can be written anew; a Zarr store is none."""
    if hasattr(root, "close"):
        root.close()


def arrays_in(root: Any, path: Path) -> dict[str, Any]:
    """The arrays at the root of a file by name; "" for one that has no name.

    Raises:
        DataError: no array there.
    """
    if hasattr(root, "dtype"):  # a Zarr array without a group
        return {"": root}
    items = root.members() if hasattr(root, "members") else root.items()  # of Zarr, of HDF5
    found = {str(name): item for name, item in sorted(items, key=lambda each: each[0])}
    groups = [name for name, item in found.items() if not hasattr(item, "dtype")]
    found = {name: item for name, item in found.items() if name not in groups}
    if not found:
        hint = "; read it by anndata.read_h5ad and give data.from_tensors(adata)" if "obs" in groups else ""
        there = ", ".join(groups) or "nothing"
        raise DataError(f"{path} has no array at its root but {there}: write the data there, as 'x'{hint}")
    return found
