"""Class labels beside features: what a net sees that depends on both."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.nets.contracts import latent_dim_of


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


def require_place_for_labels(decoder: object, latent_dim: int, num_classes: int) -> None:
    """Raise ValueError for a decoder that was not built for z beside a one-hot label."""
    width, built_for = latent_dim + num_classes, latent_dim_of(decoder)
    if built_for not in (None, width):
        raise ValueError(
            f"latent_dim + num_classes is {latent_dim} + {num_classes} = {width}, but the decoder was "
            f"built for {built_for}: it takes z and the one-hot y side by side"
        )
