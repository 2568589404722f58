"""A run's folder: its configuration, weights, checkpoint and metrics, every write atomic."""

from __future__ import annotations

import csv
import importlib.metadata
import os
import pickle
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor, nn

from ppl_vae.safe_yaml import read_yaml

CONFIG = "config.yaml"
WEIGHTS = "weights.safetensors"
CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.csv"

# what torch.load reads with weights_only=True
_PLAIN = (type(None), bool, int, float, str, bytes, torch.Size, torch.dtype, torch.device)


class RunError(ValueError):
    """A run's folder that cannot be read or written; names the file, what is wrong and the fix."""


def atomic_write(path: str | Path, writer: Callable[[Path], object]) -> None:
    """Write a file so that whoever looks at `path`, whenever, finds the old content or the new.

    `writer` gets the path of a temporary file beside `path`, with its suffix. The file is flushed to
    the disk and then renamed. A killed process leaves the temporary file, which nothing reads and
    `RunFolder.clean` removes.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> atomic_write(path, lambda temporary: temporary.write_text("hello"))
    >>> path.read_text()
    'hello'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp-{secrets.token_hex(6)}{path.suffix}")
    try:
        writer(temporary)
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself is on the disk only when its folder is
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class RunFolder:
    """The files of one run; a folder is made at the first write, and every write is atomic.

    Args:
        path: the run's folder, such as `runs/digits`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def clean(self) -> None:
        """Remove what killed writers left; for the one process that takes the folder over to write."""
        for leftover in self.path.glob(".*.tmp-*"):
            leftover.unlink(missing_ok=True)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write `config.yaml`.

        Raises:
            RunError: for values other than numbers, strings, bools, None, lists, tuples and dicts.
        """
        try:
            text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        except yaml.YAMLError as error:
            raise RunError(f"{CONFIG} holds plain values only: {error}") from error
        atomic_write(self.path / CONFIG, lambda temporary: temporary.write_text(text, encoding="utf-8"))

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
                f"{path} was written by ppl_vae {config['ppl_vae']} and this is {written_version()}: upgrade with "
                f"pip install -U ppl_vae"
            )
        return config

    def save_weights(self, pair: nn.Module, name: str = WEIGHTS) -> None:
        """Write the parameters and buffers with safetensors; a shared tensor is written once.

        Raises:
            RunError: when the module's state holds anything but tensors.
        """
        state = pair.state_dict()
        if strange := [key for key, value in state.items() if not isinstance(value, Tensor)]:
            raise RunError(f"{name} holds tensors only, but the state has {', '.join(strange)}")
        # clones: safetensors refuses views of one storage, and layouts such as channels_last
        tensors = {
            names[0]: state[names[0]].detach().cpu().clone(memory_format=torch.contiguous_format)
            for names in shared_names(state)
        }
        atomic_write(self.path / name, lambda temporary: safetensors.torch.save_file(tensors, temporary))

    def load_weights(self, pair: nn.Module, name: str = WEIGHTS) -> None:
        """Fill a module from a file of `save_weights`; the module takes over the file's dtypes.

        Raises:
            RunError: for a missing, truncated or foreign file, and for tensors that are missing,
                unexpected or of another shape; the module is then left as it was.
        """
        path = self._existing(name)
        try:
            tensors = safetensors.torch.load_file(path, device="cpu")
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise RunError(f"{path} is truncated or not a safetensors file: {error}") from error
        state = pair.state_dict()
        full, problems = {}, []
        for names in shared_names(state):
            stored = [key for key in names if key in tensors]
            shape = tuple(state[names[0]].shape)
            if not stored:
                problems.append(f"missing {names[0]} {shape}")
            elif len(stored) > 1:
                problems.append(
                    f"{' and '.join(stored)}: one tensor in the pair, but {len(stored)} in the file"
                )
            elif tensors[stored[0]].shape != shape:
                problems.append(
                    f"{stored[0]}: {shape} in the pair, {tuple(tensors[stored[0]].shape)} in the file"
                )
            elif tensors[stored[0]].is_floating_point() != state[names[0]].is_floating_point():
                problems.append(
                    f"{stored[0]}: {state[names[0]].dtype} in the pair, {tensors[stored[0]].dtype} in the file"
                )
            else:
                full.update(dict.fromkeys(names, tensors[stored[0]]))
        problems += [f"unexpected {key} {tuple(tensors[key].shape)}" for key in tensors if key not in state]
        if problems:
            raise RunError(
                f"{path} does not fit the pair: {shortened(problems)}. Build the pair as it was trained"
            )
        _take_dtypes(pair, full)
        pair.load_state_dict(full)

    def save_checkpoint(self, state: Mapping[str, Any], name: str = CHECKPOINT) -> None:
        """Write a nested state (optimiser, generators, history) from which training resumes.

        Raises:
            RunError: for a value that `load_checkpoint` would refuse; the message names its place.
        """
        _check_plain(dict(state), "state")
        atomic_write(self.path / name, lambda temporary: torch.save(dict(state), temporary))

    def load_checkpoint(self, name: str = CHECKPOINT, device: str | torch.device = "cpu") -> dict[str, Any]:
        """Read a state of `save_checkpoint`; a pickle that would run code is refused.

        Raises:
            RunError: for a missing, truncated or foreign file.
        """
        path = self._existing(name)
        try:
            state = torch.load(path, map_location=device, weights_only=True)
        except pickle.UnpicklingError as error:
            raise RunError(
                f"{path} is not a checkpoint of ppl_vae: it is damaged, or holds objects that would run "
                f"code, which are refused. Start the run afresh"
            ) from error
        except Exception as error:  # whatever a foreign file makes the reader trip over
            raise RunError(
                f"{path} is truncated or not a checkpoint: {error}. Start the run afresh"
            ) from error
        if not isinstance(state, dict):
            raise RunError(f"{path} holds a {type(state).__name__} and not a checkpoint's dict")
        return state

    def write_metrics(self, rows: Iterable[Mapping[str, Any]], name: str = METRICS) -> None:
        """Write a table from its rows; the columns are their keys, in the order of first appearance."""
        rows = list(rows)
        columns = list(dict.fromkeys(key for row in rows for key in row))

        def write(temporary: Path) -> None:
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, columns, lineterminator="\n")
                if columns:
                    table.writeheader()
                    table.writerows({key: _number(value) for key, value in row.items()} for row in rows)

        atomic_write(self.path / name, write)

    def append_metrics(self, rows: Iterable[Mapping[str, Any]], name: str = METRICS) -> None:
        """Add rows to a table: it is written anew, so that a reader never sees half a row."""
        old: list[dict[str, Any]] = []
        if (self.path / name).exists():
            with open(self.path / name, newline="", encoding="utf-8") as file:
                old = list(csv.DictReader(file))  # text as it stands, so that no digit changes
        self.write_metrics([*old, *rows], name)

    def read_metrics(self, name: str = METRICS) -> pd.DataFrame:
        """Read a table of `write_metrics`; floats are the bits that were written.

        Raises:
            RunError: when it is missing or not a table.
        """
        path = self._existing(name)
        try:
            with open(path, newline="", encoding="utf-8") as file:
                header, *rows = list(csv.reader(file, strict=True)) or [[]]
            columns = [_column(texts) for texts in zip(*rows, strict=True)] if rows else [[] for _ in header]
            return pd.DataFrame(dict(zip(header, columns, strict=True)))
        except (ValueError, OSError, csv.Error) as error:
            raise RunError(f"{path} is not a table of metrics: {error}") from error

    def _existing(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            if self.path.is_file():
                raise RunError(f"{self.path} is a file: give the folder of the run, {self.path.parent}")
            if not self.path.is_dir():
                raise RunError(f"there is no folder {self.path}{_neighbours(self.path)}")
            raise RunError(f"{self.path} has no {name}: is it the folder of a run?")
        return path


def shared_names(state: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The names of a state, those of one and the same tensor together, in the state's order."""
    groups: dict[Any, list[str]] = {}
    for name, value in state.items():
        same = (
            (value.device, value.data_ptr(), value.shape, value.stride(), value.dtype)
            if value.numel()
            else name
        )
        groups.setdefault(same, []).append(name)
    return [tuple(names) for names in groups.values()]


def _take_dtypes(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    floating = {t.dtype for t in tensors.values() if t.is_floating_point() or t.is_complex()}
    if len(floating) == 1:
        module.to(floating.pop())  # constant buffers, which no file holds, go along
    else:
        for name, tensor in module.state_dict(keep_vars=True).items():
            tensor.data = tensor.data.to(tensors[name].dtype)


def _check_plain(value: Any, where: str) -> None:
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            _check_plain(key, f"a key of {where}")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for i, item in enumerate(value):
            _check_plain(item, f"{where}[{i}]")
    elif type(value) not in _PLAIN and not isinstance(value, Tensor):
        raise RunError(
            f"{where} is of type {type(value).__module__}.{type(value).__name__}, which a checkpoint cannot "
            f"hold: give tensors, numbers, strings, lists and dicts"
        )


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _column(texts: Sequence[str]) -> list[Any]:
    """Numbers where all of a column are; Python's parser gives every bit back, whichever pandas is there."""
    try:
        return [int(text) for text in texts]
    except ValueError:
        pass
    try:
        return [float(text or "nan") for text in texts]
    except ValueError:
        return [text or None for text in texts]


def written_version() -> str:
    """The version of ppl_vae that a configuration written now belongs to."""
    return importlib.metadata.version("ppl_vae")


def _release(version: object) -> tuple[int, ...] | None:
    """Major and minor; patch releases do not change the files."""
    match = re.match(r"(\d+)\.(\d+)", str(version))
    return tuple(map(int, match.groups())) if match else None


def shortened(items: Sequence[str], limit: int = 8) -> str:
    """A list of problems in one line, its tail counted."""
    return "; ".join(items[:limit]) + (f"; and {len(items) - limit} more" if len(items) > limit else "")


def _neighbours(path: Path) -> str:
    runs = sorted(found.parent.name for found in path.parent.glob(f"*/{CONFIG}"))
    return (
        f": the runs in {path.parent} are {shortened(runs)}"
        if runs
        else ": train with pv.fit, or check the path"
    )
