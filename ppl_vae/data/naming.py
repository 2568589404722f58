"""Named arrays: how each is stored and of what type a batch of it is.

`x` is what a model generates and a guide looks at, so it becomes real numbers, as in `checks`: bytes are
divided by 255. Every other array keeps its meaning: truth values stay bool, whole numbers come as int64,
whatever their width in memory, so that no sum in a program wraps, and real numbers as float32, or as float64
where a float64 Tensor was given. None of them is scaled.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.array_checks import check_finite, check_shape, to_float32, to_labels, to_storage
from ppl_vae.data.data_error import DataError
from ppl_vae.data.foreign import to_array
from ppl_vae.data.frames import is_column, is_frame
from ppl_vae.data.rows import ResidentRows, Rows
from ppl_vae.data.sparse import is_sparse, sparse_rows

if TYPE_CHECKING:
    from ppl_vae.data.alphabet import Alphabet
    from ppl_vae.data.schema import Schema


@dataclass(frozen=True)
class Naming:
    """What the arrays of a split are called.

    Attributes:
        main: the name of `Split.rows`.
        order: of the arrays in a batch; empty for all, as they were given.
        by_user: whether somebody has named them; else `x` and `y` are only what we call them. A number
            is the place of an array without a name.
        by_place: whether they were given as a tuple, which goes to the programs in its order if it can.
        columns: of a table's columns that `x` is made of, in order; empty where there are none.
        left_out: why something of a name is no array, such as a column that lacks values.
        schema: of a table, how its columns become x and come back.
        alphabet: of strings, what the numbers of x stand for.
    """

    main: str = "x"
    order: tuple[str, ...] = ()
    by_user: bool = False
    by_place: bool = False
    columns: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    schema: Schema | None = None
    alphabet: Alphabet | None = None


ONLY_X = Naming()
"""Of what nobody has named."""

IN_ORDER = Naming(by_place=True)
"""Of a tuple."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Arrays as a split keeps them: the main one, class labels, and the others by name."""

    rows: Rows
    y: Tensor | None
    others: Mapping[str, Rows]
    naming: Naming


def given_dtype(stored: torch.dtype) -> torch.dtype:
    """The type in which a batch has an array that is not `x`."""
    if stored == torch.bool:
        return torch.bool
    if not stored.is_floating_point:
        return torch.int64
    return torch.float64 if stored == torch.float64 else torch.float32


def to_given(array: Any, what: str, missing: bool = False) -> Tensor:
    """`array` as the tensor to keep for an array that is not `x`, `(N, *event)`, with its values as they are.

    Raises:
        DataError: no array, not numeric, empty, or a value that is not finite, nor NaN where it is `missing`.
    """
    tensor = given_tensor(array, what)
    if not tensor.ndim:
        raise DataError(f"{what}: one number for all rows; give one for each, (N,)")
    check_shape((*tensor.shape, 1), what)
    if tensor.is_floating_point():
        check_finite(tensor, what, missing=missing)
    return tensor


def given_tensor(array: Any, what: str) -> Tensor:
    """The same, not yet checked for NaN and for its shape."""
    array = to_array(array, what)
    if not isinstance(array, Tensor):
        if array.dtype.kind not in "buif":
            raise DataError(
                f"{what}: values of type {array.dtype} are not numbers; number them first, for example by "
                f"numpy.unique(..., return_inverse=True)"
            )
        if array.dtype.kind == "f":
            array = to_float32(array)
        elif array.dtype.kind == "u" and array.itemsize > 1:  # torch knows few operations of these
            array = _to_int64(array, what)
        array = np.array(array, dtype=array.dtype.newbyteorder("="))  # a copy: never read-only or reversed
        array = torch.from_numpy(array)
    elif array.is_meta:
        raise DataError(f"{what}: a tensor on the device 'meta' has a shape and no values")
    elif array.is_complex():
        raise DataError(f"{what}: complex values are not supported; give their real parts")
    elif array.dtype in (torch.uint16, torch.uint32, torch.uint64):
        array = torch.from_numpy(_to_int64(array.cpu().numpy(), what)).to(array.device)
    elif array.is_floating_point() and array.dtype not in (torch.float32, torch.float64):
        array = array.to(torch.float32)
    tensor: Tensor = array.detach()
    return tensor


def to_main(array: Any, what: str, missing: bool = False) -> Tensor:
    """`array` as the tensor to keep for `x`; an array of NumPy's may be (N,) where it has a name."""
    found = to_array(array, what)
    if isinstance(found, np.ndarray) and found.ndim == 1:
        return to_storage(found[:, None], what, missing)[:, 0].contiguous()
    return to_storage(found, what, missing)


def are_labels(array: Any) -> bool:
    """Whether a Tensor or an array may be class numbers: a whole one for each row."""
    if isinstance(array, np.ndarray):
        return array.ndim == 1 and array.dtype.kind in "ui"
    whole = not array.is_floating_point() and not array.is_complex() and array.dtype != torch.bool
    return bool(array.ndim == 1 and whole)


def store(arrays: Mapping[str, Any], missing: bool = False) -> Stored:
    """Arrays by name as a split keeps them; `x` is the main one, or the first.

    Raises:
        DataError: a name that is no argument's, an array that cannot be used, or lengths that differ.
    """
    if not isinstance(missing, bool):
        raise DataError(
            "missing is True or False: an array of that name goes in a dictionary, {'missing': ...}"
        )
    if not arrays:
        raise DataError("no arrays were given: a data set is one or several, such as x=..., y=..., mask=...")
    for name in arrays:
        if not isinstance(name, str) or not name.isidentifier():
            raise DataError(f"an array is called {name!r}, and no argument of a program can be: rename it")
    _check_order(arrays)
    main = "x" if "x" in arrays else next(iter(arrays))
    rows = {name: rows_of(array, name, missing) for name, array in arrays.items()}
    return assembled(rows, Naming(main, tuple(arrays), by_user=True))


def rows_of(array: Any, name: str, missing: bool = False) -> Rows:
    """An array as the rows to keep under its name; a sparse one stays sparse.

    Raises:
        DataError: an array that cannot be used.
    """
    if is_sparse(array):
        return sparse_rows(array, name, real=name == "x")
    keep = to_main if name == "x" else to_given
    return ResidentRows(keep(array, name, missing))


def beside(arrays: Mapping[str, Any], count: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Those arrays of a file that a program may be given beside its data, and why the others are none.

    Args:
        arrays: by name, with a shape and a type of NumPy's.
        count: of the data.
    """
    usable, left_out = {}, {}
    for name, array in arrays.items():
        if not name.isidentifier():
            left_out[name] = "no argument of a program can be called so"
        elif not array.shape or array.shape[0] != count:
            left_out[name] = f"its shape is {tuple(array.shape)}, and the data has {count} rows"
        elif array.dtype.kind not in "buif":
            left_out[name] = f"its values are of type {array.dtype} and no numbers"
        else:
            usable[name] = array
    return usable, left_out


def store_beside(x: Any, y: Any, missing: bool = False) -> Stored:
    """`x`, and a `y` beside it that is in a batch only where a program needs it."""
    _check_order({"x": x, "y": y})
    main = sparse_rows(x, "x", real=True) if is_sparse(x) else ResidentRows(to_storage(x, "x", missing))
    rows: dict[str, Rows] = {"x": main, "y": ResidentRows(to_given(y, "y", missing))}
    return assembled(rows, Naming("x", ("x",)))


def store_in_order(arrays: Sequence[Any], missing: bool = False, by_place: bool = True) -> Stored:
    """Arrays that nobody has named: `x`, class numbers `y` second, and others by their places alone.

    Args:
        arrays: in order.
        missing: NaN is a value that nobody knows.
        by_place: see `Naming`.

    Raises:
        DataError: an array that cannot be used, or lengths that differ.
    """
    _check_order({f"array number {place}": array for place, array in enumerate(arrays, 1)})
    first = arrays[0]
    main = (
        sparse_rows(first, "x", real=True)
        if is_sparse(first)
        else ResidentRows(to_storage(first, "x", missing))
    )
    tensors = [to_given(array, f"array number {place}", missing) for place, array in enumerate(arrays[1:], 2)]
    rows: dict[str, Rows] = dict(zip(names_in_order([first, *tensors]), [main, *map(ResidentRows, tensors)]))
    return assembled(rows, Naming("x", tuple(rows), by_place=by_place))


def names_in_order(arrays: Sequence[Any]) -> tuple[str, ...]:
    """What arrays that nobody has named are called: `x`, class numbers `y` second, others by their places."""
    names = ["x", *(str(place) for place in range(1, len(arrays)))]
    if len(arrays) > 1 and are_labels(arrays[1]):
        names[1] = "y"
    return tuple(names)


def assembled(rows: Mapping[str, Rows], naming: Naming) -> Stored:
    """Rows by name as a split keeps them: a `y` of class numbers is labels.

    Raises:
        DataError: lengths that differ.
    """
    main = rows[naming.main]
    lengths = {name: len(each) for name, each in rows.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(
            f"the arrays differ in their number of rows: {listed}; give one row of each per datum"
        )
    others = {name: each.to(main.device) for name, each in rows.items() if name != naming.main}
    y = None
    labels = others.get("y")
    if isinstance(labels, ResidentRows) and are_labels(labels.tensor):
        y = to_labels(labels.tensor, len(main), "y")
        del others["y"]
    return Stored(main, y, others, naming)


def _to_int64(array: np.ndarray, what: str) -> np.ndarray:
    if array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{what}: {array.max()} is larger than any int64; give smaller whole numbers")
    return array.astype(np.int64)


def _check_order(arrays: Mapping[str, Any]) -> None:
    """Raise DataError for frames or columns of pandas whose index has the same labels in another order.

    Rows go together by their places. An index of other labels says nothing: one of the two was made anew.
    """
    indexed = {
        name: array.index
        for name, array in arrays.items()
        if (is_frame(array) or is_column(array)) and hasattr(getattr(array, "index", None), "isin")
    }
    for (one, first), (other, second) in itertools.combinations(indexed.items(), 2):
        same = len(first) == len(second) and first.is_unique and second.is_unique
        if same and not first.equals(second) and bool(first.isin(second).all()):
            raise DataError(
                f"{one} and {other} have the same labels in their index, in another order, and rows go "
                f"together by places: give them in one order, {other}.loc[{one}.index], or take the index "
                "away where it means nothing, reset_index(drop=True)"
            )
