"""Checksums inside the files that they are of, so that no kill comes between the two.

A text has SHA-256 in a comment on its first line, JSON under a key, tensors beside their names. Files without
one, of earlier versions or written by hand, are taken as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_vae.runs.run_error import RunError

KEY = "sha256"
MAY_CHANGE = (
    "epochs", "checkpoint_every", "capture", "progress", "loggers", "device", "check", "run_dir", "resume",
)  # fmt: skip
"""Options that the digest of a run leaves out: those which `FitOptions` marks as free to change.

A part of the files' format: with another list, the digests of files that exist would no longer fit.
"""

_LINE = re.compile(r"# sha256: ([0-9a-f]{64})( .*)?")


def sealed_text(text: str) -> str:
    """A text (YAML, or another with such comments) with its checksum on a first line."""
    return f"# {KEY}: {_digest(text)} of the lines below\n{text}"


def problem_of(text: str) -> str | None:
    """What is wrong with a text that is not what its first line says,
    and how an edit of one's own is accepted.
    """
    first, _, rest = text.removeprefix("\ufeff").partition("\n")
    found = _LINE.fullmatch(first.rstrip("\r"))
    if found is None or found[1] in (_digest(rest), _digest(rest.replace("\r\n", "\n"))):
        return None
    return (
        "it does not have the checksum that its first line names: it is damaged, or was edited by hand. If "
        "the edit is your own, delete that line; else restore the file from a copy"
    )


def is_sealed(text: str) -> bool:
    """Whether a text names its checksum on its first line, as none does that was edited by hand."""
    return _LINE.fullmatch(text.removeprefix("\ufeff").partition("\n")[0].rstrip("\r")) is not None


def digest_of_run(config: Mapping[str, Any]) -> str:
    """SHA-256 of what a run's configuration says of pair, data and options,
    but for what a resume may change.
    """
    data, options = config.get("data"), config.get("fit")
    parts = {
        "pair": config.get("pair"),
        "data": {part: data.get(part) for part in ("train", "valid")} if isinstance(data, Mapping) else None,
        "fit": {name: value for name, value in options.items() if name not in MAY_CHANGE}
        if isinstance(options, Mapping)
        else None,
    }
    return _digest(json.dumps(parts, sort_keys=True, default=str))


def sealed_json(values: Mapping[str, Any]) -> str:
    """Plain values as JSON, with their checksum."""
    return json.dumps({**values, KEY: _digest(_canonical(values))}, indent=2) + "\n"


def check_json(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The values without their checksum.

    Raises:
        RunError: when they are not what it says.
    """
    kept = {name: value for name, value in values.items() if name != KEY}
    if KEY in values and values[KEY] != _digest(_canonical(kept)):
        raise RunError(
            f"{path} does not have the checksum that it names: it is damaged, or was edited by hand. If the "
            f"edit is your own, delete the key {KEY}; else restore the file from a copy"
        )
    return kept


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name}\0{tensors[name].dtype}\0{tuple(tensors[name].shape)}\0".encode())
        update_with(digest, tensors[name])
    return digest.hexdigest()


def update_with(digest: Any, tensor: Tensor) -> None:
    """Take a tensor's bytes into a digest of hashlib's."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.numel():
        digest.update(flat.view(torch.uint8).numpy().data)


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
