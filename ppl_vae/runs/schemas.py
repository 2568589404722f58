"""The schema of the table that a run was trained on, read back from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ppl_vae.data import DataError, Schema
from ppl_vae.runs.folder import CONFIG, RunFolder
from ppl_vae.runs.run_error import RunError


def load_schema(path: str | Path) -> Schema:
    """The schema of the table that a run was trained on.

    `load_schema(path).inverse(pv.sample(pair, 10).value)` is a frame in the user's units.

    Args:
        path: the run's folder.

    Raises:
        RunError: for a folder that is no run's, and for a run that was trained on no table.
    """
    folder = RunFolder(path)
    config = folder.read_config()
    data = config.get("data")
    known = data.get("schema") if isinstance(data, Mapping) else None
    if known is None:
        raise RunError(f"{folder.path} was trained on no table, so that its data have no columns by name")
    try:
        return Schema.from_plain(known)
    except DataError as error:
        raise RunError(f"{folder.path / CONFIG}: {error}") from error
