"""A run's folder: its configuration, weights, checkpoint and metrics,
every write atomic and every read checked.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch import nn

from ppl_vae.runs.atomic import atomic_write, clean
from ppl_vae.runs.checkpoint import read_checkpoint, write_checkpoint
from ppl_vae.runs.metrics import LARGEST_TABLE, parsed_table, table_text
from ppl_vae.runs.owner import Owner, owned
from ppl_vae.runs.run_error import RunError, WriteError
from ppl_vae.runs.safe_yaml import load_yaml, read_yaml
from ppl_vae.runs.seals import digest_of_run, is_sealed, sealed_text
from ppl_vae.runs.weights import load_weights, read_notes, shortened, write_weights

CONFIG = "config.yaml"
"""From which the pair is rebuilt."""
WEIGHTS = "weights.safetensors"
"""The pair's best weights, with notes on what made them."""
CHECKPOINT = "checkpoint.pt"
"""From which the training goes on."""
METRICS = "metrics.csv"
"""A row an epoch."""


class RunFolder:
    """The files of one run; a folder is made at the first write, and every write is atomic.

    Args:
        path: the run's folder, such as `runs/digits`.

    Raises:
        RunError: for a path that is empty or no path.
    """

    def __init__(self, path: str | Path) -> None:
        if not isinstance(path, str | os.PathLike) or not str(path) or "\0" in str(path):
            raise RunError(f"a run's folder cannot be {path!r}: give a path such as 'runs/name'")
        self._path = Path(path)
        self.owner: Owner | None = None
        self._digest_of_run = ""

    @property
    def path(self) -> Path:
        """The folder; another than was given where that one was replaced while a run wrote to it."""
        return self._path if self.owner is None else self.owner.shown

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @contextmanager
    def owned(self) -> Iterator[Owner]:
        """Be the folder's one writer, and remove what killed writers left.

        Raises:
            RunError: while another process or thread owns the folder; names it.
        """
        with owned(self._path) as owner:
            self.owner = owner
            try:
                yield owner
            finally:
                self._path, self.owner = self.path, None

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return os.path.isfile(self._place(name))

    def is_lost(self) -> bool:
        """Whether the folder was removed, renamed or replaced since it is owned."""
        return self.owner is not None and self.owner.is_lost()

    def tell(self) -> None:
        """Warn of what happened to the folder, once everything is written."""
        if self.owner is not None:
            self.owner.tell()

    def clean(self) -> None:
        """Remove what killed writers left; for the one process that takes the folder over to write."""
        clean(self.path)

    def write(self, name: str, writer: Callable[[Path], object]) -> None:
        """Write a file, as `atomic_write`."""
        self._write(name, lambda path: atomic_write(path, writer))

    def write_text(self, name: str, text: str) -> None:
        """Write a small file, which an owner writes again where it goes missing."""
        if self.owner is not None:
            self.owner.kept[name] = text
        self._write(name, lambda path: atomic_write(path, lambda temporary: _put(temporary, text)))

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write `config.yaml`.

        Raises:
            RunError: for values other than numbers, strings, bools, None, lists, tuples and dicts.
        """
        try:
            text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        except yaml.YAMLError as error:
            raise RunError(f"{CONFIG} holds plain values only: {error}") from error
        self._digest_of_run = digest_of_run(load_yaml(text))  # as it will be read back
        self.write_text(CONFIG, sealed_text(text))

    def read_config(self) -> dict[str, Any]:
        """Read `config.yaml`; tags that would run code are errors.

        Raises:
            RunError: when it is missing, corrupt, or written by a newer minor version of ppl_vae.
        """
        path = self._existing(CONFIG)
        try:
            config = read_yaml(path)
        except (ValueError, OSError, RecursionError) as error:
            raise RunError(f"{path} is not the YAML of a run: {error}") from error
        if not isinstance(config, dict) or "ppl_vae" not in config:
            raise RunError(f"{path} is no run's configuration: it lacks the key ppl_vae, the version")
        written, here = _release(config["ppl_vae"]), _release(written_version())
        if written is None:
            raise RunError(f"{path} is no run's configuration: ppl_vae: {config['ppl_vae']!r} is no version")
        if here is not None and written > here:
            raise RunError(
                f"{path} was written by ppl_vae {config['ppl_vae']} and this is {written_version()}: upgrade "
                f"with pip install -U ppl_vae"
            )
        return config

    def save_weights(self, pair: nn.Module, name: str = WEIGHTS) -> None:
        """Write the parameters and buffers with safetensors; a shared tensor is written once.

        Raises:
            RunError: when the module's state holds anything but tensors.
        """
        self._write(name, lambda path: write_weights(pair, path))

    def load_weights(self, pair: nn.Module, name: str = WEIGHTS) -> None:
        """Fill a module from a file of `save_weights`; the module takes over the file's dtypes.

        Raises:
            RunError: for a missing, truncated, damaged or foreign file, for tensors that are missing,
                unexpected or of another shape, and for weights that are not finite; the module is
                then left as it was.
        """
        load_weights(pair, self._existing(name))

    def check_belonging(self, config: Mapping[str, Any]) -> None:
        """Refuse weights of another run than the configuration's, which may have the same shapes.

        A configuration that was edited by hand, and has no checksum, is taken as it is.

        Raises:
            RunError: names both files.
        """
        known = read_notes(self._existing(WEIGHTS)).get(CONFIG)
        sealed = is_sealed(self._existing(CONFIG).read_text(encoding="utf-8"))
        if known is not None and sealed and known != digest_of_run(config):
            raise RunError(
                f"{self.path}: {WEIGHTS} and {CONFIG} are of two runs: the pair, the data or the options of "
                "one are not those of the other. Restore one of the two files from a copy, or resume the "
                f"run, whose checkpoint writes the weights again"
            )

    def save_checkpoint(self, state: Mapping[str, Any], name: str = CHECKPOINT) -> None:
        """Write a nested state (optimiser, generators, history) from which training resumes.

        Raises:
            RunError: for a value that `load_checkpoint` would refuse; the message names its place.
        """
        self._write(name, lambda path: write_checkpoint(state, path))

    def load_checkpoint(self, name: str = CHECKPOINT, device: str | torch.device = "cpu") -> dict[str, Any]:
        """Read a state of `save_checkpoint`; a pickle that would run code is refused.

        Raises:
            RunError: for a missing, truncated, damaged or foreign file.
        """
        return read_checkpoint(self._existing(name), device)

    def save_results(self, pair: nn.Module, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write weights and metrics; the weights' file has the checksum of the metrics, which stay plain CSV.

        It has that of the table before too, so that a kill between the two writes leaves both readable, and
        that of the configuration which was written with them.
        """
        text = table_text(rows)
        known = [_digest(text)]
        if self.has(METRICS) and self._place(METRICS).stat().st_size <= LARGEST_TABLE:
            known.append(hashlib.sha256(self._place(METRICS).read_bytes()).hexdigest())
        notes = {METRICS: " ".join(dict.fromkeys(known))}
        if self._digest_of_run:
            notes[CONFIG] = self._digest_of_run
        self._write(WEIGHTS, lambda path: write_weights(pair, path, notes))
        self._write_table(METRICS, text)

    def write_metrics(self, rows: Iterable[Mapping[str, Any]], name: str = METRICS) -> None:
        """Write a table from its rows; the columns are their keys, in the order of first appearance."""
        self._write_table(name, table_text(rows))

    def append_metrics(self, rows: Iterable[Mapping[str, Any]], name: str = METRICS) -> None:
        """Add rows to a table: it is written anew, so that a reader never sees half a row."""
        old: list[dict[str, Any]] = []
        if self.has(name):
            with open(self._place(name), newline="", encoding="utf-8") as file:
                old = list(csv.DictReader(file))  # text as it stands, so that no digit changes
        self.write_metrics([*old, *rows], name)

    def read_metrics(self, name: str = METRICS) -> pd.DataFrame:
        """Read a table of `write_metrics`; floats are the bits that were written.

        Raises:
            RunError: when it is missing, damaged or not a table.
        """
        path = self._existing(name)
        try:
            if path.stat().st_size > LARGEST_TABLE:
                raise ValueError(f"it has {path.stat().st_size:,} bytes")
            text = path.read_bytes().decode("utf-8")
            table = parsed_table(text)
        except (ValueError, OSError, csv.Error) as error:
            raise RunError(f"{path} is not a table of metrics: {error}") from error
        known = read_notes(self._place(WEIGHTS)).get(name) if self.has(WEIGHTS) else None
        if known is not None and _digest(text) not in known.split():
            raise RunError(
                f"{path} does not have the checksum that {WEIGHTS} names: it is damaged, or was edited by "
                "hand. Restore it from a copy, or resume the run, which writes it again; pandas.read_csv "
                f"reads it as it stands"
            )
        return table

    def _write_table(self, name: str, text: str) -> None:
        self._write(name, lambda path: atomic_write(path, lambda temporary: _put(temporary, text)))

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        """Write to the folder as it was left, also where it has been removed or renamed meanwhile."""
        if self.owner is None:
            write(self._path / name)
            return
        self.owner.before_write()
        try:
            write(self.owner.path / name)
        except WriteError:
            if not self.owner.is_lost():
                raise
            self.owner.before_write()
            write(self.owner.path / name)

    def _place(self, name: str) -> Path:
        return (self._path if self.owner is None else self.owner.path) / name

    def _existing(self, name: str) -> Path:
        if not self.has(name):
            if os.path.isfile(self.path):
                raise RunError(f"{self.path} is a file: give the folder of the run, {self.path.parent}")
            if not os.path.isdir(self.path):
                raise RunError(f"there is no folder {self.path}{_neighbours(self.path)}")
            raise RunError(f"{self.path} has no {name}: is it the folder of a run?")
        return self.path / name


def written_version() -> str:
    """The version of ppl_vae that a configuration written now belongs to."""
    return importlib.metadata.version("ppl_vae")


def _release(version: object) -> tuple[int, ...] | None:
    """Major and minor; patch releases do not change the files."""
    match = re.match(r"(\d+)\.(\d+)", str(version))
    return tuple(map(int, match.groups())) if match else None


def _neighbours(path: Path) -> str:
    runs = sorted(found.parent.name for found in path.parent.glob(f"*/{CONFIG}"))
    return (
        f": the runs in {path.parent} are {shortened(runs)}" if runs else ": train first, or check the path"
    )


def _put(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
