"""What a run is of: the pair, the data and the options that decide what is computed;
by it a resume is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.pair import Pair
from ppl_vae.data import DataSet, Split, as_split
from ppl_vae.data.rows import HostTensor, ResidentRows, Rows
from ppl_vae.runs.naming import describe, describe_module, differences
from ppl_vae.runs.seals import update_with

_WHOLE = 64 * 2**20  # bytes that are read in a moment
_SAMPLED = 16 * 2**20
_CHUNK = 4 * 2**20

# what torch sets by device or version, and what a schedule moves
_OF_THE_DEVICE = ("params", "fused", "foreach", "capturable", "differentiable", "initial_lr")


def identity(
    pair: Pair,
    trees: Mapping[str, Any],
    data: DataSet | Split | Tensor,
    estimator: Any,
    kl: Any,
    penalties: Any,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    factor: Any,
    devices: int,
) -> dict[str, Any]:
    """What a run is of, as plain values.

    Args:
        trees: of the pair, as `pair_config` makes them.
        factor: the learning rate's factor as a function of the fraction of training.
    """
    rebuildable = trees.get("rebuildable") is not False
    curve = [] if schedule == "constant" else [float(factor(i / 16)) for i in range(17)]
    return {
        "pair": {"tree": dict(trees)} if rebuildable else {"structure": describe_module(pair)},
        "data": data_identity(data),
        "estimator": describe(estimator),
        "kl": describe(kl),
        "penalties": describe(penalties),
        "optimizer": {
            "class": f"{type(optimizer).__module__}:{type(optimizer).__qualname__}",
            "groups": [
                {name: describe(value) for name, value in group.items() if name not in _OF_THE_DEVICE}
                | {"tensors": len(group["params"])}
                for group in optimizer.param_groups
            ],
        },
        "schedule": curve,
        "devices": devices,
    }


def data_identity(data: DataSet | Split | Tensor) -> dict[str, Any]:
    """What a training sees of its data: sizes, types, and a checksum of the values of each part."""
    if isinstance(data, DataSet):
        valid: Split | None = data.valid
        return {
            "train": split_identity(data.train),
            "valid": None if valid is None else split_identity(valid),
        }
    return {"train": split_identity(as_split(data, missing=True)), "valid": None}


def split_identity(split: Split) -> dict[str, Any]:
    """One part: how many rows of what, how a batch is made of them, and the SHA-256 of each array of a batch.

    All rows are read up to 64 MB, and of more 16 MB of rows that a fixed seed chooses; of what is in memory
    all others too, some seconds for a gigabyte. Of what is streamed from files, a change in
    other rows than those is not seen.
    """
    classes = hashlib.sha256()
    if split.with_labels and split.y is not None:
        update_with(classes, split.y)
    beside = {name: _rows_identity(split.others[name]) for name in split.names if name in split.others}
    main = _rows_identity(split.rows)
    return {
        "names": list(split.names),
        **({"arrays": beside} if beside else {}),
        "rows": len(split),
        "shape": main["shape"],
        "stored": main["stored"],
        "divisor": float(split.divisor),
        "dynamic": split.dynamic,
        "labels": classes.hexdigest()[:16] if split.with_labels else "",
        **{name: main[name] for name in ("values", "all") if name in main},
    }


def _rows_identity(rows: Rows) -> dict[str, Any]:
    """One array: of what its rows are, and the SHA-256 of them."""
    size = max(1, int(torch.Size(rows.shape).numel()) * rows.dtype.itemsize)
    every = torch.arange(len(rows))
    index, rows_in_chunk, some_only = every, max(1, _CHUNK // size), size * len(every) > _WHOLE
    if some_only:
        some = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        ends = torch.tensor([0, len(rows) - 1])
        index = torch.cat([some[: max(16, _SAMPLED // size)], ends]).unique()
    in_memory = isinstance(rows, ResidentRows) or isinstance(rows.source, HostTensor)
    values = hashlib.sha256()
    for chunk in index.split(rows_in_chunk):
        update_with(values, rows.read(chunk))
    return {
        "shape": list(rows.shape),
        "stored": str(rows.dtype).removeprefix("torch."),
        "values": values.hexdigest()[:16],
        **({"all": _digest_of_all(rows, every.split(rows_in_chunk))} if in_memory and some_only else {}),
    }


def _digest_of_all(rows: Rows, chunks: Sequence[Tensor]) -> str:
    """BLAKE2b of the chunks' own, which threads take side by side, since hashlib lets go of Python's lock.

    Two seconds of a core for a gigabyte on any processor, where SHA-256 without instructions of its own takes
    four.
    """

    def digest_of(chunk: Tensor) -> bytes:
        values = hashlib.blake2b()
        update_with(values, rows.read(chunk))
        return values.digest()

    whole = hashlib.blake2b()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for part in threads.map(digest_of, chunks):
            whole.update(part)
    return whole.hexdigest()[:16]


def changes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is another than it was, a line each: `data.train.rows was 100, is 90`."""
    lines = []
    for name in ("pair", "data", "estimator", "kl", "penalties", "optimizer", "schedule", "devices"):
        if name in saved and name in now:
            old, new = saved[name], now[name]
            if name == "pair" and "tree" in old and "tree" in new:
                old, new = old["tree"], new["tree"]
            lines += differences(old, new, name)
    return lines


def other_data(saved: Mapping[str, Any], data: DataSet | Split | Tensor) -> list[str]:
    """What of data is another than a run's config has it; what that does not say is left alone, and so is
    which of the arrays the run's programs took.
    """
    known = {part: saved.get(part) for part in ("train", "valid")}
    now = {
        part: of and {name: value for name, value in of.items() if name != "names"}
        for part, of in data_identity(data).items()
    }
    return differences(known, now, "data")
