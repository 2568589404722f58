"""Some of the data, drawn at random."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ppl_vae.evaluate.batches import Data

_BATCH = 1000


def chosen_rows(size: int, num_data: int | None) -> Tensor:
    """(size,) bool: so many, drawn at random, or all of them."""
    chosen = torch.zeros(size, dtype=torch.bool)
    chosen[torch.randperm(size)[: size if num_data is None else num_data]] = True
    return chosen


def batches_of(source: Data, chosen: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The chosen ones of the data, (N,) bool, in batches."""
    first = 0
    for batch in source.batches(min(len(source), _BATCH)):
        kept = chosen[first : first + len(batch[0])].to(batch[0].device)
        if bool(kept.any()):
            yield tuple(tensor[kept] for tensor in batch)
        first += len(batch[0])
