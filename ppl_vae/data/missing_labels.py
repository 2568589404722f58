"""Missing labels: most of a split's labels hidden, as if nobody had written them down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from ppl_vae.core.checks import check_seed
from ppl_vae.data.data_error import DataError
from ppl_vae.data.schema import MISSING
from ppl_vae.data.split import Split


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
    classes = y[y != MISSING].unique().tolist()
    if not classes:
        raise DataError("few_labels needs labels to keep some of, and all of them are missing")
    return _keeping(split, dict.fromkeys(classes, per_class), seed, repeat)


def stratified(split: Split, num_labels: int, *, seed: int = 0) -> Split:
    """`few_labels` by their number in all, which the classes share; the rows that have one are a tenth.

    Where the number does not divide evenly, the first classes have one more. Labelled rows are repeated until
    they are about a tenth of all, so that `guides.SemiSupervised` with alpha = 1 weighs the classifier as
    arXiv:1406.5298 does, 0.1 times the number of data.

    Raises:
        DataError: fewer labels than classes, a class with fewer data than its share, no labels.

    >>> digits = Split.from_tensor(torch.rand(400, 3), torch.arange(400) % 3)
    >>> small = stratified(digits, 8)
    >>> small[:400].y.clamp(min=-1).add(1).bincount().tolist(), len(small)
    ([392, 3, 3, 2], 432)
    """
    if split.y is None or not bool((split.y != MISSING).any()):
        raise DataError(f"labels={num_labels}: there are no labels to keep some of; leave labels out")
    classes = split.y[split.y != MISSING].unique().tolist()
    if num_labels < len(classes):
        raise DataError(
            f"labels={num_labels}: there are {len(classes)} classes, so give at least {len(classes)}"
        )
    each, more = divmod(num_labels, len(classes))
    shares = {label: each + (place < more) for place, label in enumerate(classes)}
    return _keeping(split, shares, seed, max(0, round(len(split) / (10 * num_labels)) - 1))


def _keeping(split: Split, shares: Mapping[int, int], seed: int, repeat: int) -> Split:
    """The rows with so many labels of each class, those that have one again at the end."""
    assert split.y is not None
    y = split.y.cpu()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    kept = []
    for label, share in shares.items():
        rows = order[y[order] == label]
        if len(rows) < share:
            raise DataError(f"class {label} has {len(rows)} labelled rows, fewer than {share}")
        kept.append(rows[:share])
    labelled = torch.cat(kept).sort().values
    hidden = torch.full_like(y, MISSING)
    hidden[labelled] = y[labelled]
    rows = torch.cat([torch.arange(len(y)), labelled.repeat(repeat)])
    return replace(split, y=hidden.to(split.y.device), with_labels=True)[rows]
