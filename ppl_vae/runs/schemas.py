"""The schema of the table, or the alphabet of the strings, that a run was trained on, from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl_vae.data import Alphabet, DataError, Schema
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
    schema = schema_of(folder, folder.read_config())
    if schema is None:
        raise RunError(f"{folder.path} was trained on no table, so that its data have no columns by name")
    return schema


def schema_of(folder: RunFolder, config: Mapping[str, Any]) -> Schema | None:
    """The schema in a run's configuration; None for a run of no table.

    Raises:
        RunError: for one that is damaged.
    """
    known = _of_data(config, "schema")
    try:
        return None if known is None else Schema.from_plain(known)
    except DataError as error:
        raise RunError(f"{folder.path / CONFIG}: {error}") from error


def load_alphabet(path: str | Path) -> Alphabet:
    """The alphabet of the strings that a run was trained on.

    `load_alphabet(path).decode(pv.sample(pair, 10).value)` is a list of strings.

    Args:
        path: the run's folder.

    Raises:
        RunError: for a folder that is no run's, and for a run that was trained on no strings.
    """
    folder = RunFolder(path)
    known = _of_data(folder.read_config(), "alphabet")
    if known is None:
        raise RunError(f"{folder.path} was trained on no strings, so that its data have no alphabet")
    try:
        return Alphabet(tuple(known))
    except (DataError, TypeError) as error:
        raise RunError(f"{folder.path / CONFIG}: {error}") from error


def _of_data(config: Mapping[str, Any], name: str) -> Any:
    data = config.get("data")
    return data.get(name) if isinstance(data, Mapping) else None
