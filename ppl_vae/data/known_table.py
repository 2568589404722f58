"""Frames for a pair that was trained on a table: brought to x by its schema, never taken as they stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

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

    Raises:
        DataError: a column is lacking, or holds a value that its kind does not have.
    """
    schema = pair.schema
    if not isinstance(schema, Schema) or not is_frame(data):
        return data
    x = schema.forward(data)
    label, y = schema.label, None
    if label is not None and label.name in columns_of(data):
        places = label.encode(schema.cells(data, (label.name,))[label.name])
        y = torch.from_numpy(np.nan_to_num(places, nan=MISSING).astype(np.int64))
    naming = Naming(columns=schema.names, schema=schema)
    return Split(ResidentRows(x), y, missing=bool(x.isnan().any()), naming=naming, with_labels=y is not None)
