"""Gaps: the rows of a split that have missing values."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.data.array_checks import rows_per_chunk
from ppl_vae.data.split import Split


def rows_with_gaps(split: Split) -> Tensor:
    """The rows in which a value is missing, LongTensor; none where `split` says that none is."""
    if not split.missing:
        return torch.empty(0, dtype=torch.long)
    home = split.device if split.resident else torch.device("cpu")
    found = []
    for index in torch.arange(len(split)).split(rows_per_chunk(split.shape)):
        gaps = torch.zeros(len(index), dtype=torch.bool)
        for rows in (split.rows, *split.others.values()):
            gaps |= rows.read(index.to(home)).isnan().reshape(len(index), -1).any(1).cpu()
        found.append(index[gaps])
    return torch.cat(found)


def example_of(train: Split, valid: Split | None, size: int) -> tuple[Tensor, ...]:
    """A few rows by which programs are tried; up to half of them have gaps, where either part has such rows,
    so that a program which does not take them fails before the first step. A datum that is alone comes twice,
    since programs are tried on two.
    """
    few = train[torch.tensor([0, 0])] if len(train) == 1 else train.take(size)
    for part in (train, valid):
        gaps = torch.empty(0) if part is None else rows_with_gaps(part)
        if part is not None and len(gaps):
            chosen = part[gaps].take(max(1, size // 2)).tensors()
            whole = few.tensors()
            kept = max(0, len(few) - len(chosen[0]))
            return tuple(torch.cat([first[:kept], last]) for first, last in zip(whole, chosen, strict=True))
    return few.tensors()
