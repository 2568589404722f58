"""Checkpoints: torch's zip of plain values and tensors, whose checksums are checked before it is read."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_crc32_options, set_crc32_options

from ppl_vae.runs.atomic import atomic_write
from ppl_vae.runs.run_error import RunError

# what torch.load reads with weights_only=True
_PLAIN = (type(None), bool, int, float, str, bytes, torch.Size, torch.dtype, torch.device)

_FOREIGN = (
    "is not a checkpoint of ppl_vae: it is damaged, or holds objects that would run code, which are refused. "
    "Start the run afresh"
)


def write_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write a nested state.

    Raises:
        RunError: for a value that `read_checkpoint` would refuse; the message names its place.
    """
    _check_plain(dict(state), "state")

    def write(temporary: Path) -> None:
        summed = get_crc32_options()
        set_crc32_options(True)
        try:
            torch.save(dict(state), temporary)
        finally:
            set_crc32_options(summed)

    atomic_write(path, write)


def read_checkpoint(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a state of `write_checkpoint`; a pickle that would run code is refused.

    Raises:
        RunError: for a truncated, damaged or foreign file.
    """
    _check_members(path)
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(f"{path} {_FOREIGN}") from error
    except Exception as error:  # whatever a foreign file makes the reader trip over
        raise RunError(f"{path} is truncated or not a checkpoint: {error}. Start the run afresh") from error
    if not isinstance(state, dict):
        raise RunError(f"{path} holds a {type(state).__name__} and not a checkpoint's dict")
    return state


def _check_members(path: Path) -> None:
    """Hold every member against its checksum, which torch does not; nothing is ever decompressed."""
    try:
        with open(path, "rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
        if not is_zip:
            raise RunError(f"{path} {_FOREIGN}")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            # torch stores and never compresses, so that a small file cannot unfold to a large one
            if any(each.compress_type != zipfile.ZIP_STORED or each.flag_bits & 1 for each in members):
                raise RunError(f"{path} {_FOREIGN}")
            if sum(max(each.file_size, each.compress_size) for each in members) > os.path.getsize(path):
                raise RunError(f"{path} {_FOREIGN}")
            wrong = archive.testzip()
    except RunError:
        raise
    except (
        Exception
    ) as error:  # zipfile's words for damage are many, struct.error and OverflowError among them
        raise RunError(f"{path} is truncated or damaged ({error}): start the run afresh") from error
    if wrong is not None:
        raise RunError(
            f"{path} is damaged: its part {wrong} does not have the checksum that it names. Restore it from "
            f"a copy, or start the run afresh; the run's weights file is apart from it"
        )


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
