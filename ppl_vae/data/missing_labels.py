"""Missing labels: most of a split's labels hidden, as if nobody had written them down."""

from __future__ import annotations

from dataclasses import replace

import torch

from ppl_vae.core.checks import check_seed
from ppl_vae.data.data_error import DataError
from ppl_vae.data.split import Split

MISSING = -1
"""The label of a datum whose label is missing."""


def few_labels(split: Split, per_class: int, *, seed: int = 0, repeat: int = 0) -> Split:
    r"""The same rows, with the labels of `per_class` random data of each class and no others.

    A hidden label is -1, which `guides.SemiSupervised` takes for missing. Labelled rows are rare, so that
    most batches would have none: with `repeat` they come that many times more, after all the others.
    Training then weighs a labelled datum 1 + repeat times.

    Args:
        split: labelled rows.
        per_class: labels to keep in each class.
        seed: of the choice.
        repeat: further copies of the labelled rows.

    Returns:
        A split whose batches are `(x, y)`.

    Raises:
        DataError: no labels, or a class with fewer data than `per_class`.

    >>> digits = Split.from_tensor(torch.rand(40, 3), torch.arange(40) % 2)
    >>> small = few_labels(digits, per_class=3, repeat=2)
    >>> len(small), int((small.y >= 0).sum())
    (52, 18)
    """
    check_seed("seed", seed, DataError)
    if split.y is None:
        raise DataError("few_labels needs labels to keep some of, and the split has none")
    if per_class < 1 or repeat < 0:
        raise DataError(f"per_class={per_class}, repeat={repeat}: give at least 1 and 0")
    y = split.y.cpu()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    kept = []
    for label in y[y != MISSING].unique():
        rows = order[y[order] == label]
        if len(rows) < per_class:
            raise DataError(f"class {int(label)} has {len(rows)} labelled rows, fewer than {per_class}")
        kept.append(rows[:per_class])
    if not kept:
        raise DataError("few_labels needs labels to keep some of, and all of them are missing")
    labelled = torch.cat(kept).sort().values
    hidden = torch.full_like(y, MISSING)
    hidden[labelled] = y[labelled]
    rows = torch.cat([torch.arange(len(y)), labelled.repeat(repeat)])
    return replace(split, y=hidden.to(split.y.device), with_labels=True)[rows]
