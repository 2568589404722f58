"""Class labels beside features: what a net sees that depends on both."""

from __future__ import annotations

import torch
from torch import Tensor


def one_hot(y: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Labels `(*batch,)` as indicators `(*batch, num_classes)`; all zeros for a label that is none (-1, NaN).

    >>> one_hot(torch.tensor([1, -1]), 3, torch.float32)
    tensor([[0., 1., 0.],
            [0., 0., 0.]])
    """
    # torch.nn.functional.one_hot looks at the values, which a captured step cannot
    return (y.unsqueeze(-1) == torch.arange(num_classes, device=y.device)).to(dtype)


def beside(features: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """Features `(*batch, F)` and the one-hot of labels `(*batch,)`, `(*batch, F + num_classes)`.

    The leading dims of the two are broadcast, as where a label has a dim for its values.

    >>> beside(torch.zeros(5, 4), torch.tensor([[0], [1], [2]]), num_classes=3).shape
    torch.Size([3, 5, 7])
    """
    indicators = one_hot(y, num_classes, features.dtype)
    lead = torch.broadcast_shapes(features.shape[:-1], indicators.shape[:-1])
    parts = [part.expand(*lead, part.shape[-1]) for part in (features, indicators)]
    return torch.cat(parts, -1)
