"""Frames for a pair that was trained on a table: brought to x by its schema, never taken as they stand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ppl_vae.core.pair import Pair
from ppl_vae.data.columns_of import columns_of
from ppl_vae.data.frames import is_frame
from ppl_vae.data.naming import Naming
from ppl_vae.data.rows import ResidentRows
from ppl_vae.data.schema import MISSING, Schema
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
    if isinstance(data, Split) and data.naming.schema != schema:
        return _translated(data, schema)
    if not is_frame(data):
        return data
    x = schema.forward(data)
    label, y = schema.label, None
    if label is not None and label.name in columns_of(data):
        y = schema.classes(schema.cells(data, (label.name,)))
    naming = Naming(columns=schema.names, schema=schema)
    return Split(ResidentRows(x), y, missing=bool(x.isnan().any()), naming=naming, with_labels=y is not None)


def _translated(split: Split, schema: Schema) -> Split:
    """The rows of a split as the table has them, its labels too; further arrays stay, and so does a split
    whose columns are not known.
    """
    own, columns, y = split.naming.schema, split.naming.columns, split.y
    if own is None and not set(schema.names) <= set(columns):
        return split
    rows = split.rows.read(torch.arange(len(split), device=split.device))
    x = schema.forward(dict(zip(columns, rows.cpu().numpy().T)) if own is None else own.inverse(rows))
    if y is not None and own is not None and own.label is not None and schema.label is not None:
        levels = [own.label.levels[place] if place != MISSING else None for place in y.tolist()]
        name = schema.label.name
        y = schema.classes(schema.cells({name: levels}, (name,)))
    naming = replace(split.naming, columns=schema.names, schema=schema)
    missing = bool(x.isnan().any())
    return replace(split, rows=ResidentRows(x), y=y, missing=missing, naming=naming).to(split.device)
