"""`DataSet`: train, valid and test; how rows are divided among them and binarised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_vae.data.alphabet import Alphabet
from ppl_vae.data.array_checks import check_unit_interval
from ppl_vae.data.binarise import fix, generator
from ppl_vae.data.blocks import BlockColumn
from ppl_vae.data.data_error import DataError
from ppl_vae.data.division import Binarise, Division
from ppl_vae.data.memory_map import MemoryMap
from ppl_vae.data.missing_labels import stratified
from ppl_vae.data.naming import ONLY_X, Naming
from ppl_vae.data.rows import ResidentRows, Rows, StreamedRows
from ppl_vae.data.schema import Schema
from ppl_vae.data.split import Split

# Each use of the seed has random numbers of its own: the test bits do not depend on valid_fraction.
DIVIDE, TRAIN, VALID, TEST, DRAW = range(5)

VALID_FRACTION = 0.1
TEST_FRACTION = 0.2


@dataclass(frozen=True, eq=False, repr=False)
class DataSet:
    """A data set in three parts.

    Args:
        name: what it is called in tables and runs.
        train: what a pair learns from.
        valid: what a run is stopped or chosen by; None for no such part.
        test: what is reported.
        factor_names: what the columns of the parts' `factors` are, where the data has known factors.
        schema: of a table, what the columns of x are and how they come back in the user's units.

    Raises:
        DataError: the parts' event shapes differ.
    """

    name: str
    train: Split
    valid: Split | None
    test: Split
    factor_names: tuple[str, ...] = ()
    schema: Schema | None = None

    def __post_init__(self) -> None:
        shapes = {part: split.shape for part, split in self.parts().items()}
        if len(set(shapes.values())) > 1:
            found = ", ".join(f"{part} {shape}" for part, shape in shapes.items())
            raise DataError(f"{self.name}: the parts' event shapes differ: {found}")
        # labels apart, which a part may lack
        arrays = {part: split.arrays() for part, split in self.parts().items()}
        if any(each != self.train.arrays() for each in arrays.values()):
            found = "; ".join(f"{part} {each}" for part, each in arrays.items())
            raise DataError(f"{self.name}: the parts' arrays differ in name or event shape: {found}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The event shape: `(C, H, W)` or `(D,)`."""
        return self.train.shape

    @property
    def alphabet(self) -> Alphabet | None:
        """Of strings, what the numbers of x stand for."""
        return self.train.naming.alphabet

    def to(self, device: torch.device | str) -> DataSet:
        """The data set with batches on `device` (see `Split.to`)."""
        parts: dict[str, Any] = {part: split.to(device) for part, split in self.parts().items()}
        return replace(self, **parts)

    def parts(self) -> dict[str, Split]:
        """The parts that there are, by name."""
        named = {"train": self.train, "valid": self.valid, "test": self.test}
        return {part: split for part, split in named.items() if split is not None}

    def part(self, name: str) -> Split:
        """One part by its name.

        Raises:
            DataError: for a part that the data set does not have.
        """
        parts = self.parts()
        if name not in parts:
            raise DataError(f"{self.name} has no {name} part, only {', '.join(parts)}")
        return parts[name]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{part}={len(split)}" for part, split in self.parts().items())
        return f"DataSet({self.name!r}, {sizes}, shape={self.shape})"


class Part(NamedTuple):
    """Rows as stored, with their labels and known factors `(N, F)`, or None, and other arrays by name."""

    rows: Rows
    y: Tensor | None
    factors: Tensor | None = None
    others: Mapping[str, Rows] = MappingProxyType({})

    def select(self, index: Tensor) -> Part:
        """Only the rows at `index`."""
        y, factors = (None if known is None else known[index] for known in (self.y, self.factors))
        others = {name: rows.select(index) for name, rows in self.others.items()}
        return Part(self.rows.select(index), y, factors, others)


class Loaded(NamedTuple):
    """What was found, before it is divided: a part that is None is drawn from `train`."""

    train: Part
    valid: Part | None = None
    test: Part | None = None
    divisor: float = 1.0
    binarise: Binarise = None  # what "auto" means
    last_rows_valid: int | None = None  # the literature's validation part: the last rows of train
    factor_names: tuple[str, ...] = ()
    missing: bool = False  # NaN among the rows is a missing value
    naming: Naming = ONLY_X


def assemble(name: str, loaded: Loaded, division: Division) -> DataSet:
    """Divide, binarise and wrap what was loaded."""
    binarise, seed, labels = division.binarise, division.seed, division.labels is not False
    if labels and loaded.train.y is None:
        raise DataError(f"{name}: labels={division.labels}, and the data has no labels; leave labels out")
    parts = divide(name, loaded, division)
    mode = loaded.binarise if binarise == "auto" else binarise
    if mode is not None and loaded.naming.main != "x":
        raise DataError(f"{name}: binarise={binarise!r} is for an array x, and there is none: leave it out")
    if loaded.divisor == 1.0 and all(part.rows.dtype == torch.uint8 for part in parts if part is not None):
        mode = None  # bits already
    splits: list[Split | None] = []
    for part, stream in zip(parts, (TRAIN, VALID, TEST)):
        if part is None:
            splits.append(None)
            continue
        rows, divisor = part.rows, loaded.divisor
        dynamic = mode == "dynamic" and stream == TRAIN
        if mode is not None:
            rows = check_binarisable(rows, name)
            if not dynamic:
                rows, divisor = fix(rows, divisor, seed, stream), 1.0
        splits.append(
            Split(
                rows,
                part.y,
                divisor,
                dynamic,
                labels,
                part.factors,
                loaded.missing,
                part.others,
                loaded.naming,
            )
        )
    train, valid, test = splits
    assert train is not None
    assert test is not None
    return with_few_labels(DataSet(name, train, valid, test, loaded.factor_names), division)


def with_few_labels(dataset: DataSet, division: Division) -> DataSet:
    """The data set with as many labels of its training part as were asked for."""
    if division.num_labels is None:
        return dataset
    return replace(dataset, train=stratified(dataset.train, division.num_labels, seed=division.seed))


def check_binarisable(rows: Rows, name: str) -> Rows:
    """`rows`, whose values must lie in [0, 1]; a memory map will say so as it is read."""
    if isinstance(rows, ResidentRows):
        check_unit_interval(rows.tensor, name)
    elif isinstance(rows.source, MemoryMap):
        return StreamedRows(MemoryMap(rows.source.path, True), rows.positions, rows.device)
    elif isinstance(rows.source, BlockColumn):
        return replace(rows, source=rows.source.in_unit_interval())
    return rows


def divide(name: str, loaded: Loaded, division: Division) -> tuple[Part, Part | None, Part]:
    """Train, valid and test; the parts that `loaded` lacks are drawn from its train part.

    Raises:
        DataError: a fraction for a part that exists, or that leaves a part empty.
    """
    train, valid, test = loaded.train, loaded.valid, loaded.test
    valid_fraction, test_fraction = division.valid_fraction, division.test_fraction
    for part, given, which in ((valid, valid_fraction, "valid"), (test, test_fraction, "test")):
        if given is not None and part is not None:
            raise DataError(f"{name} has a {which} part of its own: leave {which}_fraction={given} out")
    n = len(train.rows)
    last = loaded.last_rows_valid or n
    last_rows = last < n and valid_fraction is None
    if last_rows and valid is None and test is not None:
        return train.select(torch.arange(n - last)), train.select(torch.arange(n - last, n)), test
    share_test = 0.0 if test is not None else _default(test_fraction, TEST_FRACTION)
    share_valid = 0.0 if valid is not None else _default(valid_fraction, VALID_FRACTION)
    if share_test + share_valid >= 1:
        raise DataError(
            f"valid_fraction={share_valid} and test_fraction={share_test} sum to "
            f"{share_valid + share_test:g} and leave nothing to train on; give less than 1 together"
        )
    num_test, num_valid = round(share_test * n), round(share_valid * n)
    for which, part, size in (("test", test, num_test), ("valid", valid, num_valid)):
        if part is None and size == 0 and not (which == "valid" and valid_fraction == 0):
            raise DataError(
                f"{name}: {n} rows leave the {which} part empty; give more rows or a larger {which}_fraction"
            )
    if num_test + num_valid >= n:
        raise DataError(f"{name}: {n} rows leave the train part empty; give more rows")
    # test first: it stays the same whatever valid_fraction is
    order = torch.randperm(n, generator=generator(division.seed, DIVIDE))
    draws = order.split([num_test, num_valid, n - num_test - num_valid])
    in_test, in_valid, in_train = (draw.sort().values for draw in draws)
    if test is None:
        test = train.select(in_test)
    if valid is None and len(in_valid):
        valid = train.select(in_valid)
    return train.select(in_train) if len(in_train) < n else train, valid, test


def _default(fraction: float | None, default: float) -> float:
    return default if fraction is None else fraction
