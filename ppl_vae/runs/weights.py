"""Weights as safetensors: written with a checksum, read back checked, fitted to a module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ppl_vae.runs.atomic import atomic_write
from ppl_vae.runs.run_error import RunError
from ppl_vae.runs.seals import KEY, digest_of_tensors

_HEADER = "ppl_vae"


def write_weights(module: nn.Module, path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write the parameters and buffers of a module; a shared tensor is written once.

    Args:
        notes: further words for the file's header.

    Raises:
        RunError: when the module's state holds anything but tensors.
    """
    state = module.state_dict()
    if strange := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise RunError(f"{path.name} holds tensors only, but the state has {', '.join(strange)}")
    # clones: safetensors refuses views of one storage, and layouts such as channels_last
    tensors = {
        names[0]: state[names[0]].detach().cpu().clone(memory_format=torch.contiguous_format)
        for names in shared_names(state)
    }
    words = json.dumps({KEY: digest_of_tensors(tensors), **(notes or {})})
    # one entry, since safetensors writes several in any order: the same weights are the same file
    atomic_write(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, {_HEADER: words}))


def read_notes(path: Path) -> dict[str, str]:
    """The words in a file's header.

    Raises:
        RunError: for a truncated or foreign file.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            words = (file.metadata() or {}).get(_HEADER, "{}")
        notes = json.loads(words)
        if not isinstance(notes, dict) or (words != "{}" and KEY not in notes):
            raise ValueError(f"its header has {words[:80]!r} for {_HEADER}")
        return {str(name): str(note) for name, note in notes.items()}
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
        raise RunError(f"{path} is truncated or not a safetensors file: {error}") from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module from a file of `write_weights`; the module takes over the file's dtypes.

    Raises:
        RunError: for a truncated, damaged or foreign file, for tensors that are missing, unexpected or
            of another shape, and for weights that are not finite; the module is then left as it was.
    """
    tensors = _read(path)
    state = module.state_dict()
    full, problems = _matched(state, tensors)
    if problems:
        raise RunError(
            f"{path} does not fit the pair: {shortened(problems)}. Build the pair as it was trained"
        )
    check_finite(module, full, str(path))
    take_dtypes(module, full)
    module.load_state_dict(full)


def check_finite(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are NaN or infinite where the module's own are not meant to be.

    Raises:
        RunError: names the tensors.
    """
    trained = {name for name, value in module.named_parameters(remove_duplicate=False) if value.requires_grad}
    own, wrong = module.state_dict(), []
    for name, value in tensors.items():
        if not (value.is_floating_point() or value.is_complex()) or bool(value.isfinite().all()):
            continue
        # a frozen mask of -inf is so by design, and is so in the untrained module
        as_built = name not in trained and name in own and own[name].shape == value.shape
        odd = ~value.isfinite()
        if not (as_built and bool((odd.cpu() <= ~own[name].isfinite().cpu()).all())):
            wrong.append(f"{name}: {int(odd.sum())} of {value.numel()}")
    if wrong:
        raise RunError(
            f"{where} has weights that are NaN or infinite ({shortened(wrong)}): it is damaged, or its "
            f"training had diverged. Restore it from a copy, or train again"
        )


def _read(path: Path) -> dict[str, Tensor]:
    notes = read_notes(path)
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
        raise RunError(f"{path} is truncated or not a safetensors file: {error}") from error
    if KEY in notes and notes[KEY] != digest_of_tensors(tensors):
        raise RunError(
            f"{path} is damaged: its tensors do not have the checksum that it names. Restore it from a copy, "
            f"or resume the run, whose checkpoint writes it again"
        )
    return tensors


def _matched(
    state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The file's tensors by the module's names, and what does not fit."""
    full: dict[str, Tensor] = {}
    problems = []
    for names in shared_names(state):
        stored = [key for key in names if key in tensors]
        wanted, shape = state[names[0]], tuple(state[names[0]].shape)
        found = tensors[stored[0]] if stored else wanted
        if not stored:
            problems.append(f"missing {names[0]} {shape}")
        elif len(stored) > 1:
            problems.append(f"{' and '.join(stored)}: one tensor in the pair, but {len(stored)} in the file")
        elif found.shape != shape:
            problems.append(f"{stored[0]}: {shape} in the pair, {tuple(found.shape)} in the file")
        elif found.is_floating_point() != wanted.is_floating_point():
            problems.append(f"{stored[0]}: {wanted.dtype} in the pair, {found.dtype} in the file")
        else:
            full.update(dict.fromkeys(names, found))
    problems += [f"unexpected {key} {tuple(tensors[key].shape)}" for key in tensors if key not in state]
    return full, problems


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


def take_dtypes(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a module the dtypes of some tensors by its names."""
    floating = {t.dtype for t in tensors.values() if t.is_floating_point() or t.is_complex()}
    if len(floating) == 1:
        module.to(floating.pop())  # constant buffers, which no file holds, go along
    else:
        for name, tensor in module.state_dict(keep_vars=True).items():
            tensor.data = tensor.data.to(tensors[name].dtype)


def shortened(items: list[str], limit: int = 8) -> str:
    """A list of problems in one line, its tail counted."""
    return "; ".join(items[:limit]) + (f"; and {len(items) - limit} more" if len(items) > limit else "")
