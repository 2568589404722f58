"""An encoder that is told what is missing."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ppl_vae.nets.encoder import Encoder


class BesideMask(nn.Module):
    r"""Data with zeros where they are NaN, and beside them, along the first dim of the event, what is seen.

    Shapes: `(*batch, C, *rest)` to `(*batch, 2 C, *rest)`.

    Args:
        event_dim: number of dims of one datum.

    >>> BesideMask(1)(torch.tensor([[2.0, float("nan")]]))
    tensor([[2., 0., 1., 0.]])
    """

    takes_missing = True

    def __init__(self, event_dim: int) -> None:
        super().__init__()
        self.event_dim = event_dim

    def forward(self, x: Tensor) -> Tensor:
        """What is seen, zeros elsewhere, and the mask."""
        missing = x.isnan()
        return torch.cat([x.masked_fill(missing, 0.0), (~missing).to(x.dtype)], -self.event_dim)


class IncompleteEncoder(nn.Module):
    r"""An encoder of data in which NaN is missing: zeros in the gaps, and the mask beside the data.

    .. math:: \mathrm{loc}, \mathrm{scale} = \mathrm{encoder}(x \odot s, s), \quad s_d = 1 \text{ where } x_d
        \text{ is seen}

    The mask tells a zero that was seen from a gap. Use it with `likelihoods.Incomplete`.

    Shapes: `(*batch, C, *rest)` to a pair of `(*batch, latent_dim)`.

    Args:
        encoder: of twice as many channels (images) or numbers (vectors): `MLPEncoder((2 * C, H, W), ...)`.

    Raises:
        ValueError: for an encoder whose first dim is odd.

    >>> from ppl_vae.nets import MLPEncoder
    >>> encoder = IncompleteEncoder(MLPEncoder((2, 8, 8), latent_dim=3))
    >>> loc, scale = encoder(torch.full((5, 1, 8, 8), float("nan")))
    >>> encoder.shape, loc.shape
    ((1, 8, 8), torch.Size([5, 3]))
    """

    takes_missing = True

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        shape = tuple(cast("tuple[int, ...]", encoder.shape))
        if shape[0] % 2:
            raise ValueError(
                f"the encoder takes data of shape {shape}: IncompleteEncoder puts the mask beside the data, "
                f"so its first dim is twice theirs: {(2 * shape[0], *shape[1:])} for data of shape {shape}"
            )
        self.shape = (shape[0] // 2, *shape[1:])
        self.beside_mask = BesideMask(len(shape))

    @property
    def latent_dim(self) -> int:
        """Of the encoder."""
        return self._inner.latent_dim

    @property
    def num_features(self) -> int:
        """Of the encoder's trunk."""
        return self._inner.num_features

    @property
    def trunk(self) -> nn.Module:
        """From data with gaps to features, as guides with a head of their own ask for it."""
        return nn.Sequential(self.beside_mask, self._inner.trunk)

    @property
    def head(self) -> nn.Module:
        """The encoder's."""
        return self._inner.head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale, each (*batch, latent_dim), at data x, (*batch, *shape)."""
        return cast("tuple[Tensor, Tensor]", self.encoder(self.beside_mask(x)))

    @property
    def _inner(self) -> Encoder:
        return cast(Encoder, self.encoder)
