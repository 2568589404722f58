"""`.parquet`, `.h5` and `.zarr` files: in memory where they fit, else streamed in blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_vae.data.array_checks import check_shape, divisor_of
from ppl_vae.data.array_stores import ArrayStore
from ppl_vae.data.blocks import BlockFile
from ppl_vae.data.data_error import DataError
from ppl_vae.data.dataset import Loaded, Part
from ppl_vae.data.naming import Naming, are_labels, assembled, beside
from ppl_vae.data.open_stores import arrays_in, close, open_store
from ppl_vae.data.parquet import ParquetTable
from ppl_vae.data.parquet_columns import columns_in
from ppl_vae.data.rows import ResidentRows, Rows, stream

SUFFIXES = (".parquet", ".h5", ".hdf5", ".zarr")


def read_blocks(path: Path, memory_limit: int) -> Loaded:
    """The arrays of a file by name: `x`, class labels `y`, and others, which programs may take by name.

    Raises:
        DataError: unreadable or damaged, no data in it, or data that cannot be used.
        ImportError: the package that reads it is not installed; names the extra.
    """
    left_out: dict[str, str] = {}
    columns: tuple[str, ...] = ()
    if path.suffix.lower() == ".parquet":
        by_name = columns_in(path)
        columns = by_name["x"] if by_name["x"] != ("x",) else ()
        file = BlockFile(ParquetTable(path, by_name))
    else:
        root = open_store(path)
        keys, left_out = _usable(arrays_in(root, path), path)
        close(root)
        file = BlockFile(ArrayStore(path, keys))
    if file.row_bytes * len(file) <= memory_limit:
        rows = _resident(file, left_out)
        file.reader.close()
    else:
        rows = _streamed(file)
    others = [name for name in rows if name not in ("x", "y")]
    naming = Naming("x", ("x",), by_user=bool(others), columns=columns, left_out=left_out)
    kept = assembled(rows, naming)
    return Loaded(
        Part(kept.rows, kept.y, None, kept.others), divisor=_divisor(file, kept.rows), naming=naming
    )


def _usable(arrays: dict[str, Any], path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The keys of the arrays with a row for each datum, by name, and why the others are none."""
    main = "x" if "x" in arrays else next(iter(arrays)) if len(arrays) == 1 else ""
    if main not in arrays:
        raise DataError(f"{path} holds {sorted(arrays)}; name the data 'x'")
    check_shape((*arrays[main].shape, 1), str(path))
    usable, left_out = beside({n: each for n, each in arrays.items() if n != main}, arrays[main].shape[0])
    return {"x": main, **{name: name for name in usable}}, left_out


def _resident(file: BlockFile, left_out: dict[str, str]) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    for name, (shape, dtype) in file.reader.events.items():
        tensor = torch.empty((len(file), *shape), dtype=dtype)
        try:
            for number, (first, last) in enumerate(zip(file.bounds[:-1].tolist(), file.bounds[1:].tolist())):
                tensor[first:last] = file.block(number, name)
        except DataError as error:
            if name == "x":
                raise
            left_out[name] = str(error)  # nobody may ask for it
        else:
            found[name] = ResidentRows(tensor)
    return found


def _streamed(file: BlockFile) -> dict[str, Rows]:
    rows: dict[str, Rows] = {name: stream(file.column(name)) for name in file.reader.events}
    shape, dtype = file.reader.events.get("y", ((0,), torch.float32))
    if are_labels(torch.empty((1, *shape), dtype=dtype)):
        rows["y"] = ResidentRows(file.reader.whole("y"))  # a number for each datum
    return rows


def _divisor(file: BlockFile, rows: Rows) -> float:
    if isinstance(rows, ResidentRows):
        return divisor_of(rows.tensor)
    if rows.dtype != torch.uint8:
        return 1.0

    def grey(block: Tensor) -> bool:
        return divisor_of(block) != 1.0

    # ends at the first grey value: images are seen at once
    return 255.0 if any(grey(file.block(number, "x")) for number in range(len(file.bounds) - 1)) else 1.0
