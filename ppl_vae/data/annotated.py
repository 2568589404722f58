"""AnnData: a matrix of cells and genes with what is known of the cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppl_vae.data.data_error import DataError


def is_annotated(data: Any) -> bool:
    """Whether this is an AnnData."""
    return any(
        each.__name__ == "AnnData" and each.__module__.startswith("anndata") for each in type(data).__mro__
    )


def to_arrays(data: Any) -> tuple[dict[str, Any], dict[str, str], tuple[str, ...]]:
    """The arrays of an AnnData: `X` as `x`, the columns of `obs` and the layers by their names.

    A column of text or categories becomes the numbers of its categories, in their order.

    Returns:
        The arrays; why other columns and layers are none, by name; the names of the genes.

    Raises:
        DataError: an AnnData that is on disk, or that has no X.
    """
    if getattr(data, "isbacked", False):
        raise DataError("an AnnData whose X is on disk: read it, adata.to_memory()")
    if data.X is None:
        layers = list(data.layers)
        hint = f"adata.X = adata.layers[{layers[0]!r}]" if layers else "give it one"
        raise DataError(f"an AnnData without X: {hint}")
    arrays: dict[str, Any] = {"x": data.X}
    left_out: dict[str, str] = {}
    columns = {str(name): data.obs[name] for name in data.obs.columns}
    for name, found in {**columns, **data.layers}.items():
        if name == "x" or (name in columns and name in data.layers):
            left_out[name] = "there are two of this name"
        elif not name.isidentifier():
            left_out[name] = "no argument of a program can be called so"
        elif name in data.layers:
            arrays[name] = found
        elif why := _lacks(found):
            left_out[name] = why
        else:
            arrays[name] = _numbers(found)
    return arrays, left_out, tuple(map(str, data.var_names))


def _lacks(column: Any) -> str:
    missing = int(column.isna().sum())
    return f"{missing} of its values are missing" if missing else ""


def _numbers(column: Any) -> np.ndarray:
    kind = column.dtype
    if isinstance(kind, np.dtype) and kind.kind in "buif":
        return np.asarray(column.to_numpy())
    if getattr(kind, "kind", "O") in "buif" and hasattr(kind, "numpy_dtype"):  # nullable, with none missing
        return np.asarray(column.to_numpy(dtype=kind.numpy_dtype))
    return np.asarray(column.astype("category").cat.codes).astype(np.int64)
