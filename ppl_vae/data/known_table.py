"""Frames for a pair that was trained on a table: brought to x by its schema, never taken as they stand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.core.pair import Pair
from ppl_vae.data.columns_of import columns_of
from ppl_vae.data.frames import is_frame
from ppl_vae.data.missing_labels import MISSING
from ppl_vae.data.naming import Naming
from ppl_vae.data.rows import ResidentRows
from ppl_vae.data.schema import Schema
from ppl_vae.data.split import Split


def of_table(data: Any, pair: Pair) -> Any:
    """A split of a frame's rows, as the table has them that the pair was trained on; other data as they are.

    A split of another table is brought to that one's columns and units too: its own were fitted to other
    rows. So is one whose columns have the table's names, as of a file of numbers alone.

    Raises:
        DataError: a column is lacking, or holds a value that its kind does not have.
    """
    schema = pair.schema
    if not isinstance(schema, Schema):
        return data
    if isinstance(data, Split) and data.naming.schema not in (None, schema):
        return _translated(data, schema)
    if isinstance(data, Split) and data.naming.schema is None and _names_all(data, schema):
        return _numbers_of(data, schema)
    if not is_frame(data):
        return data
    x = schema.forward(data)
    label, y = schema.label, None
    if label is not None and label.name in columns_of(data):
        y = _labels(data, schema)
    naming = Naming(columns=schema.names, schema=schema)
    return Split(ResidentRows(x), y, missing=bool(x.isnan().any()), naming=naming, with_labels=y is not None)


def _names_all(split: Split, schema: Schema) -> bool:
    return set(schema.names) <= set(split.naming.columns or ())


def _numbers_of(split: Split, schema: Schema) -> Split:
    """The rows of a split whose columns have names and are numbers as the user has them."""
    rows = split.rows.read(torch.arange(len(split), device=split.device)).cpu().numpy()
    x = schema.forward(dict(zip(split.naming.columns or (), rows.T, strict=True)))
    naming = replace(split.naming, columns=schema.names, schema=schema)
    missing = bool(x.isnan().any())
    return replace(split, rows=ResidentRows(x), missing=missing, naming=naming).to(split.device)


def _translated(split: Split, schema: Schema) -> Split:
    """The rows of one table's split as another table has them, its labels too; further arrays stay."""
    own = split.naming.schema
    assert own is not None
    x = schema.forward(own.inverse(split.rows.read(torch.arange(len(split), device=split.device))))
    y = split.y
    if y is not None and own.label is not None and schema.label is not None:
        levels = [own.label.levels[place] if place != MISSING else None for place in y.tolist()]
        y = _labels({schema.label.name: levels}, schema)
    naming = replace(split.naming, columns=schema.names, schema=schema)
    missing = bool(x.isnan().any())
    return replace(split, rows=ResidentRows(x), y=y, missing=missing, naming=naming).to(split.device)


def _labels(given: Any, schema: Schema) -> Tensor:
    """The labels of a frame or a dictionary of columns, as the table numbers its classes."""
    label = schema.label
    assert label is not None
    places = label.encode(schema.cells(given, (label.name,))[label.name])
    return torch.from_numpy(np.nan_to_num(places, nan=MISSING).astype(np.int64))
