"""Which of the matrix products was the fastest: remembered, so that a training rounds the same again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from ppl_vae.runs import atomic_write

Route = Literal["aten", "linear", "weights"]
"""ATen's product, oneDNN's linear layer, or oneDNN's gradient of a layer's weights."""

_chosen: dict[str, Route] = {}
_read: set[Path] = set()


def chosen() -> dict[str, Route]:
    """The choices made so far, by shape. A checkpoint keeps them."""
    return dict(_chosen)


def remember(choices: Mapping[str, Route | bool]) -> None:
    """Make these choices again, without timing. Older checkpoints say whether it was "linear"."""
    former: dict[bool, Route] = {False: "aten", True: "linear"}
    _chosen.update({key: former[way] if isinstance(way, bool) else way for key, way in choices.items()})


def choice(key: str) -> Route | None:
    """The choice for a product, from this process or from the disk; None where none was made."""
    if key not in _chosen and (path := _path()) not in _read:
        _read.add(path)
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            found = {}
        if isinstance(found, dict):  # this process's own choices stand, since graphs are made of them
            remember({k: v for k, v in found.items() if v in get_args(Route) and k not in _chosen})
    return _chosen.get(key)


def keep(key: str, route: Route) -> None:
    """Remember a choice here and, beside Inductor's compiled code, for the processes to come."""
    _chosen[key] = route
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
