"""xarray: arrays whose dims have names."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppl_vae.data.data_error import DataError


def is_labelled(data: Any) -> bool:
    """Whether this is a `DataArray` or a `Dataset` of xarray."""
    return type(data).__module__.partition(".")[0] == "xarray" and hasattr(data, "dims")


def to_arrays(data: Any) -> np.ndarray | dict[str, np.ndarray]:
    """The values of a `DataArray`, whose first dim counts the data; or the variables of a `Dataset` by name.

    The data's dim of a `Dataset` is the first of `x`, or of the first variable; wherever another variable has
    it, it is brought to the front, and its other dims into the order of `x`.

    Raises:
        DataError: a variable without the data's dim, or none at all.
    """
    if not hasattr(data, "data_vars"):
        return np.asarray(data.values)
    variables = {str(name): array for name, array in data.data_vars.items()}
    if not variables:
        raise DataError("an xarray Dataset without data variables: give one, ds.reset_coords()")
    first = variables.get("x", next(iter(variables.values())))
    if not first.dims:
        raise DataError(f"the variable {first.name!r} of an xarray Dataset is one number: give an array")
    rows = first.dims[0]
    for name, array in variables.items():
        if rows not in array.dims:
            others = [other for other, each in variables.items() if rows in each.dims]
            raise DataError(
                f"the variable {name!r} has the dims {tuple(array.dims)}, and {first.name!r} has its data "
                f"along {rows!r}: leave it out, ds[{others!r}], or put the dim of the data first, "
                f"ds.transpose(dim, ...)"
            )
    return {
        name: np.asarray(array.transpose(*[dim for dim in first.dims if dim in array.dims], ...).values)
        for name, array in variables.items()
    }
