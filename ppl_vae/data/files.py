"""A user's `.npz`, `.npy` and `.csv` files."""

from __future__ import annotations

import csv
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppl_vae.data.checks import divisor_of, rows_per_chunk, to_labels, to_storage
from ppl_vae.data.dataset import Loaded, Part
from ppl_vae.data.errors import DataError
from ppl_vae.data.layout import as_events
from ppl_vae.data.memory_map import MemoryMap, open_npy
from ppl_vae.data.rows import ResidentRows, stream

PARTS = ("train", "valid", "test")


def read_npz(path: Path) -> Loaded:
    """Arrays `train` [`valid`, `test`], or `x`, or one array of any name.

    Labels are `train_labels` ... beside `train`, `y` beside `x`; `x_train`, `y_train` ... are read too.

    Raises:
        DataError: unreadable or truncated, no known array, or data that cannot be used.
    """
    arrays = _arrays(path)
    found = {}
    for part in PARTS:
        for x, y in ((part, f"{part}_labels"), (f"x_{part}", f"y_{part}")):
            if x in arrays:
                found[part] = (arrays[x], arrays.get(y), f"{path}: {x}")
    if "train" not in found:
        if "x" in arrays:
            found["train"] = (arrays["x"], arrays.get("y"), f"{path}: x")
        elif len(arrays) == 1:
            ((key, array),) = arrays.items()
            found["train"] = (array, None, f"{path}: {key}")
        else:
            raise DataError(
                f"{path} holds {sorted(arrays)}; name the data 'train' (with 'valid' and 'test', "
                f"if you have them) or 'x'"
            )
    parts = {part: _part(*given) for part, given in found.items()}
    tensors = [part.rows.tensor for part in parts.values() if isinstance(part.rows, ResidentRows)]
    if len({(tensor.dtype, tensor.shape[1:]) for tensor in tensors}) > 1:
        kinds = ", ".join(
            f"{part} {tensor.dtype} {tuple(tensor.shape)}" for part, tensor in zip(parts, tensors)
        )
        raise DataError(f"{path}: the parts differ in type or event shape: {kinds}")
    return Loaded(
        parts["train"], parts.get("valid"), parts.get("test"), divisor=divisor_of(*tensors)
    )


def read_npy(path: Path, memory_limit: int) -> Loaded:
    """One array, kept in memory, or as a memory map where it would take more than `memory_limit`.

    Raises:
        DataError: unreadable or truncated, or data that cannot be used.
    """
    array = as_events(open_npy(path), str(path))
    one_byte = array.dtype in (np.bool_, np.uint8)
    if array.size * (1 if one_byte else 4) <= memory_limit:
        part = _part(np.array(array), None, str(path))
        assert isinstance(part.rows, ResidentRows)
        return Loaded(part, divisor=divisor_of(part.rows.tensor))
    size = rows_per_chunk(tuple(array.shape[1:]))
    grey = array.dtype == np.uint8 and any(
        array[start : start + size].max() > 1 for start in range(0, len(array), size)
    )
    return Loaded(Part(stream(MemoryMap(path)), None), divisor=255.0 if grey else 1.0)


def read_csv(path: Path) -> Loaded:
    """A table of numbers, one row a datum `(D,)`; a column headed `label` holds the labels.

    The first line is a header when none of its cells is a number.

    Raises:
        DataError: a cell that is not a number (line and column are named), rows of unequal length,
            or no rows.
    """
    import pandas as pd  # not at the top: it is slow to import

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = next(csv.reader(file), [])
        header = bool(first) and not any(_is_number(cell) for cell in first)
        table = pd.read_csv(path, header=0 if header else None, skipinitialspace=True)
    except (pd.errors.EmptyDataError, StopIteration):
        raise DataError(f"{path} is empty; give at least one row of numbers") from None
    except (pd.errors.ParserError, csv.Error) as error:
        raise DataError(f"{path}: rows of unequal length ({error}); mend that line") from error
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read as text ({error}); save it as UTF-8") from error
    if table.empty:
        raise DataError(f"{path} holds a header and no rows; give at least one row of numbers")
    numeric = all(kind.kind in "buif" for kind in table.dtypes if isinstance(kind, np.dtype))
    if not numeric or not all(isinstance(kind, np.dtype) for kind in table.dtypes):
        raise _text_cell(path, header)
    if table.isna().any(axis=None):
        raise _text_cell(path, header)
    y = None
    if header:
        names = [str(name).strip().lower() for name in table.columns]
        if "label" in names and len(names) > 1:
            y = table.iloc[:, names.index("label")].to_numpy()
            table = table.drop(columns=table.columns[names.index("label")])
    return Loaded(_part(table.to_numpy(dtype=np.float32), y, str(path)))


def _text_cell(path: Path, header: bool) -> DataError:
    """The error that names the first cell which is not a number."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        names: list[str] = next(reader) if header else []
        width = len(names)
        for cells in reader:
            width = width or len(cells)
            if cells and len(cells) < width:
                return DataError(
                    f"{path}: line {reader.line_num} has {len(cells)} cells, not {width}; fill it"
                )
            for column, cell in enumerate(cells):
                if not _is_number(cell) or float(cell) != float(cell):
                    name = f" ({names[column]!r})" if column < len(names) else ""
                    return DataError(
                        f"{path}: line {reader.line_num}, column {column + 1}{name} holds "
                        f"{cell!r}, not a number; cells are numbers separated by commas"
                    )
    return DataError(f"{path}: a cell is not a number; cells are numbers separated by commas")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read as .npz ({error}); it may be truncated: write it anew with "
            f"numpy.savez, with arrays of numbers only"
        ) from error
    except (AttributeError, TypeError) as error:  # a bare array has no `files`
        raise DataError(f"{path} is not an .npz archive; rename it to end with .npy") from error


def _part(array: NDArray[Any], y: Any, what: str) -> Part:
    tensor = to_storage(as_events(array, what), what).contiguous()
    labels = None if y is None else to_labels(y, len(tensor), f"{what} labels")
    return Part(ResidentRows(tensor), labels)


def tensor_part(tensor: torch.Tensor, y: Any, what: str) -> Part:
    """A part of a tensor that is stored as it is, with its labels checked."""
    return Part(ResidentRows(tensor.contiguous()), to_labels(y, len(tensor), what))
