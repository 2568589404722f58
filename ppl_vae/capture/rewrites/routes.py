"""Which of two matrix products was the faster: remembered, so that a training rounds the same again."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from ppl_vae.runs import atomic_write

_chosen: dict[str, bool] = {}
_read: set[Path] = set()


def chosen() -> dict[str, bool]:
    """The choices made so far: whether oneDNN's product is the faster, by shape. A checkpoint keeps them."""
    return dict(_chosen)


def remember(choices: dict[str, bool]) -> None:
    """Make these choices again, without timing."""
    _chosen.update(choices)


def choice(key: str) -> bool | None:
    """The choice for a product, from this process or from the disk; None where none was made."""
    if key not in _chosen and (path := _path()) not in _read:
        _read.add(path)
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            found = {}
        if isinstance(found, dict):  # this process's own choices stand, since graphs are made of them
            remember({k: v for k, v in found.items() if isinstance(v, bool) and k not in _chosen})
    return _chosen.get(key)


def keep(key: str, onednn: bool) -> None:
    """Remember a choice here and, beside Inductor's compiled code, for the processes to come."""
    _chosen[key] = onednn
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_chosen, indent=0)
        atomic_write(path, lambda temporary: temporary.write_text(text))
    except OSError:  # a cache that cannot be written is no reason to stop
        pass


def key_of(x: Tensor, matrix: Tensor, has_bias: bool) -> str:
    """What the choice hangs on: shapes, strides, threads, processor and torch."""
    return ", ".join(
        [
            *(f"{list(each.shape)} by {list(each.stride())}" for each in (x, matrix)),
            "bias" if has_bias else "no bias",
            f"{torch.get_num_threads()} threads",
            torch.backends.cpu.get_cpu_capability(),
            f"torch {torch.__version__}",
        ]
    )


def _path() -> Path:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return Path(cache_dir()) / "ppl_vae" / "products.json"
