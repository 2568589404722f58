"""`.parquet` files, opened, and the columns that each array of theirs is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ppl_vae.data.blocks import needed
from ppl_vae.data.data_error import DataError

AS_TABLE = "data.table(polars.read_parquet(path)) takes columns of text and missing values"


def open_parquet(path: Path) -> Any:
    """A `.parquet` file, of which the footer has been read.

    Raises:
        DataError: damaged, or no Parquet.
        ImportError: without the package pyarrow.
    """
    library = needed("pyarrow.parquet", path)
    try:
        return library.ParquetFile(path)
    except Exception as error:
        raise DataError(f"{path} cannot be read as .parquet ({error}); write it anew") from error


def columns_in(path: Path) -> dict[str, tuple[str, ...]]:
    """The columns of each array, by its name.

    With a column of lists, `x`, each column is an array of its own. Else the columns of numbers are `x`, but
    for one called `label`, which is `y`.

    Raises:
        DataError: a column that is no numbers, or none at all.
    """
    file = open_parquet(path)
    schema = file.schema_arrow
    file.close()
    kinds = {column.name: _kind(column.type) for column in schema}
    if len(kinds) < len(schema.names):
        raise DataError(f"{path} has two columns of one name: rename one")
    if not kinds:
        raise DataError(f"{path} has no columns")
    for name, kind in kinds.items():
        if not kind:
            raise DataError(
                f"{path}: column {name!r} is no numbers but {schema.field(name).type}: {AS_TABLE}"
            )
    if "list" in kinds.values():
        if "x" not in kinds:
            raise DataError(f"{path} holds the columns {list(kinds)}, some of lists: call the data 'x'")
        return {name: (name,) for name in kinds}
    label = [name for name in kinds if name.strip().lower() == "label" and len(kinds) > 1][:1]
    return {"x": tuple(name for name in kinds if name not in label), **({"y": tuple(label)} if label else {})}


def _kind(kind: Any) -> str:
    from pyarrow import types

    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return "number"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list" if _kind(kind.value_type) else ""
    return ""
