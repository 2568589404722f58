"""`load`: a data set by its name or its path."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ppl_vae.core.checks import check_count
from ppl_vae.data.array_shapes import height_and_width
from ppl_vae.data.binarise import numpy_generator
from ppl_vae.data.block_files import SUFFIXES, read_blocks
from ppl_vae.data.data_error import DataError, MissingDataError
from ppl_vae.data.dataset import DRAW, DataSet, Loaded, assemble
from ppl_vae.data.division import Binarise, Division
from ppl_vae.data.files import read_csv, read_npy, read_npz
from ppl_vae.data.image_folder import read_folder
from ppl_vae.data.named import NAMED, Drawn
from ppl_vae.data.one_cell import MARKS
from ppl_vae.data.tables import Columns
from ppl_vae.data.text_file import table_of_file

TABLES = (".csv", ".tsv", ".txt", ".data")
FILES = (".npz", ".npy", *TABLES, *SUFFIXES)
MAPPED = (".npy", *SUFFIXES)
MEMORY_LIMIT = 4 * 2**30


def load(
    name_or_path: str | Path,
    *,
    binarise: Binarise = "auto",
    seed: int = 0,
    valid_fraction: float | None = None,
    test_fraction: float | None = None,
    labels: bool | int = False,
    root: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    memory_limit: int = MEMORY_LIMIT,
    num_data: int | None = None,
    columns: Columns | None = None,
    standardise: bool | None = None,
    missing: Iterable[str | float] | None = None,
) -> DataSet:
    """Train, valid and test of a known data set, or of a file or folder of yours.

    Names: digits (bundled, 8 x 8), mnist, static_mnist, fashion_mnist, kmnist, omniglot, cifar10, svhn,
    patches (bundled, colour), the sequences chorales and names, and those that are drawn by the seed,
    `num_data` of them, their factors known (`Split.factors`): sprites, linear_gaussian, pinwheel, counts,
    markov_strings.
    Paths: `.npz` (arrays train [valid, test] or x [y]), `.npy`, `.csv` and other tables as text (a row is a
    datum), `.parquet`, `.h5` and `.zarr` (arrays x, y and others, which programs may take by name), or a
    folder of png and jpg files, whose subfolders are the labels. A name wins over a path: for a folder called
    digits, write ./digits.

    A text file of numbers alone is a matrix, x as it stands. Where cells are missing or are texts, or where
    one of `columns`, `standardise` and `missing` is given, it is a table with a schema: see `data.table`.

    Binarisation makes x a draw from Bernoulli(x), x in [0, 1]. "dynamic" draws afresh at every batch of
    the train part, from torch's global generator (Burda et al. 2016, arXiv:1509.00519); its valid and
    test parts are drawn once, by the seed, so that evaluations compare. "fixed" draws all parts once.
    Bits stay as they are. The caller's global generators are not touched here.

    Parts: mnist, fashion_mnist and kmnist keep the last 10,000 training images for validation, as in
    the literature, unless `valid_fraction` is given. A part that the data lacks is drawn by the seed:
    from the train part where there is a test part, else from all rows. omniglot is torchvision's
    background (train) and evaluation (test) sets, not the split of the IWAE paper.

    uint8 data is kept as it is and divided by 255 in a batch; other numbers become float32 unscaled.

    Args:
        name_or_path: a name from the list, or a path.
        binarise: "dynamic", "fixed", None (grey values), or "auto": dynamic for the known grey sets,
            None for colour and for your files.
        seed: divides the rows, draws fixed bits, and draws the data of sets that are drawn.
        valid_fraction: share for validation; 0.1 by default, 0 for none: all of it is trained on.
        test_fraction: share for the test; 0.2 by default.
        labels: batches are `(x, y)` instead of `(x,)`. A number keeps as many labels of the train part, the
            same number of each class, and hides the others as -1; rows with a label are repeated until they
            are a tenth of an epoch (`few_labels` has the choice of each).
        root: where known sets are found or downloaded to: else the variable PPL_VAE_DATA, else
            ~/.cache/ppl_vae.
        image_size: pixels, or (height, width), of known image sets and folders; patches are cut to it.
        memory_limit: bytes; a larger `.npy` is not read but mapped, and streamed; a larger `.parquet`, `.h5`
            or `.zarr` is streamed in blocks, and shuffled by them (`data.blocks.shuffled_by_blocks`).
        num_data: rows of a set that is drawn, all parts together.
        columns: of a table, kinds by name: `data.table`.
        standardise: of a table, whether numbers are standardised; they are by default.
        missing: of a table, the texts and numbers that stand for a missing value, besides empty cells.

    Raises:
        MissingDataError: nothing is there.
        DataError: an unknown name, an unreadable file, or data and options that do not fit.
        ImportError: a package that reads the file is not installed; names the extra.

    >>> from ppl_vae import data
    >>> digits = data.load("digits")
    >>> digits
    DataSet('digits', train=1258, valid=180, test=359, shape=(1, 8, 8))
    >>> for (x,) in digits.train.batches(1000):
    ...     print(tuple(x.shape), x.unique().tolist())
    (1000, 1, 8, 8) [0.0, 1.0]
    (258, 1, 8, 8) [0.0, 1.0]
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise DataError(
            "data.load takes the name of a data set or a path, not an object of type "
            f"{type(name_or_path).__name__}: for an array of yours write data.from_tensors(x)"
        )
    division = Division(seed, valid_fraction, test_fraction, labels, binarise)
    size = None if image_size is None else height_and_width(image_size)
    key = str(name_or_path).lower().replace("-", "_")
    _check_effect(key, name_or_path, root, memory_limit)
    as_table = not (columns is None and standardise is None and missing is None)
    if as_table and (key in NAMED or Path(name_or_path).suffix.lower() not in TABLES):
        raise DataError(
            f"columns, standardise and missing are for tables, {', '.join(TABLES)} files, and {name_or_path} "
            "is none: leave them out, or give data.table(frame)"
        )
    if key in NAMED:
        name, loaded = key, _named(key, root, size, num_data, seed)
    elif num_data is not None:
        raise DataError(
            f"num_data={num_data}: {name_or_path} is not drawn; take some of its rows with .train.take(n)"
        )
    else:
        path = Path(name_or_path).expanduser()
        found = None if as_table else _read_path(path, size, memory_limit)
        if found is None:
            _check_path(path, size)
            _check_table(binarise, standardise)
            marks = MARKS if missing is None else missing
            division = replace(division, binarise=None)
            return table_of_file(path, columns, standardise is not False, marks, division)
        name, loaded = path.stem or str(path), found
    return assemble(name, loaded, division)


def _check_effect(key: str, given: str | Path, root: str | Path | None, memory_limit: int) -> None:
    """Refuse options that were chosen and would do nothing."""
    if root is not None and (key not in NAMED or isinstance(NAMED[key], Drawn)):
        why = "is drawn" if key in NAMED else "is a path, which already says where it is"
        raise DataError(f"root={str(root)!r}: {given} {why}; leave root out")
    if isinstance(memory_limit, bool) or not isinstance(memory_limit, int) or memory_limit < 0:
        raise DataError(f"memory_limit={memory_limit!r}: give a whole number of bytes >= 0")
    if memory_limit != MEMORY_LIMIT and (key in NAMED or Path(given).suffix.lower() not in MAPPED):
        raise DataError(
            f"memory_limit={memory_limit}: only {', '.join(MAPPED)} files are streamed; leave it out"
        )


def _named(
    name: str, root: str | Path | None, size: tuple[int, int] | None, num_data: int | None, seed: int
) -> Loaded:
    known = NAMED[name]
    if isinstance(known, Drawn):
        number = known.num_data if num_data is None else num_data
        check_count("num_data", number, error=DataError)
        return known.draw(number, numpy_generator(seed, DRAW), size)
    if num_data is not None:
        drawn = [each for each, kind in NAMED.items() if isinstance(kind, Drawn)]
        raise DataError(
            f"num_data={num_data}: {name} is not drawn but read; take some of its rows with "
            f".train.take(n). Drawn are {', '.join(drawn)}"
        )
    return known.read(data_root(root), size)


def data_root(root: str | Path | None = None) -> Path:
    """Where known data sets lie: `root`, else PPL_VAE_DATA, else ~/.cache/ppl_vae."""
    return Path(root or os.environ.get("PPL_VAE_DATA") or "~/.cache/ppl_vae").expanduser()


def _read_path(path: Path, size: tuple[int, int] | None, memory_limit: int) -> Loaded | None:
    """What a path holds; None for a text file that is no matrix of numbers."""
    if path.is_dir() and path.suffix.lower() != ".zarr":
        return read_folder(path, size)
    suffix = _check_path(path, size)
    if suffix == ".npz":
        return read_npz(path)
    if suffix == ".npy":
        return read_npy(path, memory_limit)
    if suffix in SUFFIXES:
        return read_blocks(path, memory_limit)
    return read_csv(path)


def _check_table(binarise: Binarise, standardise: bool | None) -> None:
    if binarise not in ("auto", None):
        raise DataError(f"binarise={binarise!r} is for grey values, and this is a table: leave it out")
    if standardise not in (True, False, None):
        raise DataError(f"standardise={standardise!r}: give True or False")


def _check_path(path: Path, size: tuple[int, int] | None) -> str:
    """The suffix of a file that can be read."""
    suffix = path.suffix.lower()
    if not path.exists():
        if suffix in FILES or len(path.parts) > 1:
            raise MissingDataError(f"{path}: no such file or folder (in {Path.cwd()})")
        close = difflib.get_close_matches(path.name.lower(), NAMED, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise DataError(
            f"no data set is called {str(path)!r}{hint}. Known: {', '.join(NAMED)}. Or give the path "
            f"of a {', '.join(FILES)} file or of a folder of images"
        )
    if not path.is_file() and suffix != ".zarr":
        raise DataError(f"{path} is no regular file but a pipe or a device; give a file")
    if size is not None and suffix in FILES:
        raise DataError(f"{path}: image_size is for known image sets and folders of images; resize the array")
    if suffix in FILES:
        return suffix
    raise DataError(f"{path}: files that end with {', '.join(FILES)} can be read; convert it")
