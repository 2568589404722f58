"""A user's `.npz`, `.npy` and `.csv` files."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppl_vae.data.array_checks import divisor_of, rows_per_chunk, to_labels, to_storage
from ppl_vae.data.array_shapes import are_lengths, as_events
from ppl_vae.data.data_error import DataError
from ppl_vae.data.dataset import Loaded, Part
from ppl_vae.data.memory_map import MemoryMap, open_npy
from ppl_vae.data.naming import Naming, beside, to_given
from ppl_vae.data.rows import ResidentRows, Rows, stream
from ppl_vae.data.text_form import form_of

PARTS = ("train", "valid", "test")
# images of sparse bits are packed 20 to 60 times smaller, zeros 1,000 times
UNPACKED, RATIO = 64 * 2**20, 200


def read_npz(path: Path) -> Loaded:
    """Arrays `train` [`valid`, `test`], or `x`, or one array of any name.

    Labels are `train_labels` ... beside `train`, `y` beside `x`; `x_train`, `y_train` ... are read too. Other
    arrays of as many rows, `mask` beside `x` or `mask_train` ... beside `x_train`, go to programs by name. A
    `length` makes (N, T, F) sequences, which else are grey images.

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
    lengths = {part: arrays.get("length" if "x" in arrays else f"length_{part}") for part in found}
    sequences = all(are_lengths(lengths[part], x.shape) for part, (x, _, _) in found.items())
    tensors = {part: _stored(x, what, sequences) for part, (x, _, what) in found.items()}
    if len({(tensor.dtype, tensor.shape[1:]) for tensor in tensors.values()}) > 1:
        kinds = ", ".join(f"{part} {tensor.dtype} {tuple(tensor.shape)}" for part, tensor in tensors.items())
        raise DataError(f"{path}: the parts differ in type or event shape: {kinds}")
    parts = {part: tensor_part(tensors[part], y, f"{what} labels") for part, (_, y, what) in found.items()}
    others, left_out = _others(arrays, {part: len(tensor) for part, tensor in tensors.items()}, "x" in arrays)
    parts = {part: each._replace(others=others[part]) for part, each in parts.items()}
    naming = Naming("x", ("x",), by_user=bool(others["train"]), left_out=left_out)
    divisor = divisor_of(*tensors.values())
    return Loaded(parts["train"], parts.get("valid"), parts.get("test"), divisor=divisor, naming=naming)


def _others(
    arrays: Mapping[str, NDArray[Any]], counts: Mapping[str, int], whole: bool
) -> tuple[dict[str, dict[str, Rows]], dict[str, str]]:
    """Of each part, the arrays beside its data by name; and why others are none."""
    found: dict[str, dict[str, Rows]] = {part: {} for part in counts}
    left_out: dict[str, str] = {}
    for part, count in counts.items():
        end = "" if whole else f"_{part}"
        named = {name.removesuffix(end): each for name, each in arrays.items() if name.endswith(end)}
        usable, why = beside({n: each for n, each in named.items() if n not in ("x", "y")}, count)
        for name, array in usable.items():
            try:
                found[part][name] = ResidentRows(to_given(array, name))
            except DataError as error:
                why[name] = str(error)  # nobody may ask for it
        left_out |= why
    everywhere = set.intersection(*(set(each) for each in found.values()))
    for part, each in found.items():
        left_out |= {
            name: f"the part {part} has it, and not every one" for name in each if name not in everywhere
        }
        found[part] = {name: rows for name, rows in each.items() if name in everywhere}
    return found, left_out


def read_npy(path: Path, memory_limit: int) -> Loaded:
    """One array, kept in memory, or as a memory map where it would take more than `memory_limit`.

    Raises:
        DataError: unreadable or truncated, or data that cannot be used.
    """
    array = as_events(open_npy(path), str(path))
    one_byte = array.dtype in (np.bool_, np.uint8)
    if array.size * (1 if one_byte else 4) <= memory_limit:
        tensor = _stored(np.array(array), str(path))
        return Loaded(tensor_part(tensor, None, str(path)), divisor=divisor_of(tensor))
    size = rows_per_chunk(tuple(array.shape[1:]))
    grey = array.dtype == np.uint8 and any(
        array[start : start + size].max() > 1 for start in range(0, len(array), size)
    )
    return Loaded(Part(stream(MemoryMap(path)), None), divisor=255.0 if grey else 1.0)


def read_csv(path: Path) -> Loaded | None:
    """A text file of numbers alone, one row a datum `(D,)`; a column headed `label` holds the labels. None
    where a cell is no number, or missing.

    Raises:
        DataError: rows of unequal length, no rows, or no text.
    """
    # not at the top: it is slow to import
    import pandas as pd  # type: ignore[import-untyped]

    form = form_of(path)
    options: dict[str, Any] = {"sep": r"\s+"} if form.separator == " " else {"sep": form.separator}
    try:
        frame = pd.read_csv(
            path, header=0 if form.header else None, skipinitialspace=True, encoding="utf-8-sig", **options
        )
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty; give at least one row of numbers") from None
    except (pd.errors.ParserError, csv.Error) as error:
        raise DataError(f"{path}: rows of unequal length ({error}); mend that line") from error
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read as text ({error}); save it as UTF-8") from error
    if frame.empty:
        raise DataError(f"{path} holds a header and no rows; give at least one row of numbers")
    numeric = all(isinstance(kind, np.dtype) and kind.kind in "uif" for kind in frame.dtypes)
    if not numeric or frame.isna().any(axis=None):
        return None
    y = None
    first = frame.iloc[:, 0].to_numpy()
    if form.header and frame.columns[0] == "Unnamed: 0" and len(first) > 2 and (np.diff(first) == 1).all():
        raise DataError(
            f"{path}: the first column has no name and holds the numbers of the rows, as pandas writes its "
            "index: write the file with index=False, or leave the column out, columns={'column 1': None}"
        )
    if form.header:
        names = [str(name).strip().lower() for name in frame.columns]
        if "label" in names and len(names) > 1:
            y = frame.iloc[:, names.index("label")].to_numpy()
            frame = frame.drop(columns=frame.columns[names.index("label")])
    tensor = to_storage(frame.to_numpy(dtype=np.float64), str(path))
    columns = tuple(str(name).strip() for name in frame.columns) if form.header else ()
    return Loaded(tensor_part(tensor, y, f"{path}: label"), naming=Naming(columns=columns))


def tensor_part(tensor: torch.Tensor, y: Any, what: str) -> Part:
    """A part of a tensor that is stored as it is; `y` are its labels or None, checked."""
    return Part(ResidentRows(tensor), None if y is None else to_labels(y, len(tensor), what))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    arrays = {}
    try:
        # opened here, since numpy leaves the file open where the archive is damaged
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            _check_size(path, archive.zip.infolist())
            for key in archive.files:
                arrays[key] = archive[key]
    except DataError:
        raise
    except (AttributeError, TypeError) as error:  # a bare array has no `files`
        raise DataError(f"{path} is not an .npz archive; rename it to end with .npy") from error
    except Exception as error:  # an encrypted member is a RuntimeError, a damaged one may be anything
        if "password" in str(error) or "encrypted" in str(error):
            raise DataError(f"{path} is encrypted; write it anew with numpy.savez") from error
        raise DataError(
            f"{path} cannot be read as .npz ({error}); it may be truncated: write it anew with "
            f"numpy.savez, with arrays of numbers only"
        ) from error
    if odd := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise DataError(
            f"{path}: {', '.join(map(repr, odd))} in it are no arrays; write it anew with numpy.savez, with "
            f"arrays of numbers only"
        )
    return arrays


def _check_size(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse an archive that unpacks to what no data would: it is made to fill the memory."""
    unpacked, packed = sum(member.file_size for member in members), path.stat().st_size
    if unpacked > UNPACKED and unpacked > RATIO * packed:
        raise DataError(
            f"{path} has {packed:,} bytes and would unpack to {unpacked:,}, as a file made to fill the "
            f"memory does; if it is yours, write it anew with numpy.savez, uncompressed"
        )


def _stored(array: NDArray[Any], what: str, sequences: bool = False) -> torch.Tensor:
    return to_storage(array if sequences else as_events(array, what), what).contiguous()
