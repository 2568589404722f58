"""The features of a table's row: one-hot classes, logarithms of counts, and a mask of what is missing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_vae.nets.shapes import check_event


class ColumnFeatures(nn.Module):
    r"""The features of a row: numbers as they are, log(1 + n) of counts, classes one-hot, zero where NaN;
    and then for each column whether it is seen.

    Shapes: `(*batch, D)` to `(*batch, num_features)`.

    Args:
        classes: for each column the number of its classes or levels; 0 or 1 for a number.
        counts: which columns are counts.

    Raises:
        ValueError: for no columns, a negative number of classes, a count that is no column or has classes.

    >>> features = ColumnFeatures(classes=(1, 3))
    >>> features(torch.tensor([[0.5, 2.0], [float("nan"), 0.0]]))
    tensor([[0.5000, 0.0000, 0.0000, 1.0000, 1.0000, 1.0000],
            [0.0000, 1.0000, 0.0000, 0.0000, 0.0000, 1.0000]])
    """

    takes_missing = True
    source: Tensor
    one_hot: Tensor
    level: Tensor
    is_count: Tensor | None

    def __init__(self, classes: tuple[int, ...], counts: tuple[int, ...] = ()) -> None:
        super().__init__()
        wrong = [size for size in classes if isinstance(size, bool) or not isinstance(size, int) or size < 0]
        if not classes or wrong:
            raise ValueError(
                f"classes must be a number of classes for each column, 1 for numbers: {classes!r}"
            )
        if any(column not in range(len(classes)) or classes[column] > 1 for column in counts):
            raise ValueError(
                f"counts={counts!r} must be positions of columns without classes, in classes={classes!r}"
            )
        self.classes = tuple(classes)
        self.counts = tuple(counts)
        sizes = [max(1, size) for size in classes]
        self.num_features = sum(sizes) + len(sizes)
        level = torch.cat([torch.arange(size) for size in sizes])
        source = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        is_count = torch.isin(torch.arange(len(sizes)), torch.tensor(counts, dtype=torch.long))
        # not stored with the weights: they follow from the arguments
        self.register_buffer("source", source, persistent=False)
        self.register_buffer("level", level, persistent=False)
        self.register_buffer("one_hot", torch.tensor(sizes)[source] > 1, persistent=False)
        self.register_buffer("is_count", is_count if counts else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(*batch, num_features)."""
        check_event(x, (len(self.classes),))
        seen = ~x.isnan()
        if self.is_count is not None:
            x = torch.where(self.is_count, torch.log1p(x.clamp(min=0)), x)
        each = x.index_select(-1, self.source)
        each = torch.where(self.one_hot, (each == self.level).to(x.dtype), each)
        known = each.masked_fill(~seen.index_select(-1, self.source), 0.0)
        return torch.cat([known, seen.to(x.dtype)], -1)

    def extra_repr(self) -> str:
        return f"classes={self.classes}" + (f", counts={self.counts}" if self.counts else "")
