"""An encoder of strings: a recurrent net that reads them both ways."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_vae.nets.encoder import Encoder
from ppl_vae.nets.recurrent import Recurrent
from ppl_vae.nets.shapes import check_event, positive_size


class StringFeatures(nn.Module):
    r"""What a recurrent net knows of a string when it has read it to the end, and back to the beginning.

    Shapes: rows `(*batch, length)` of whole numbers, 0 from the end on (`data.Alphabet`), to
    `(*batch, 2 hidden)`. What comes after the end is not looked at.

    Args:
        num_symbols: how many symbols there are.
        length: of the rows.
        hidden: width of the recurrent state of each direction.
        embedding_dim: width in which a symbol is shown to the net.
    """

    def __init__(self, num_symbols: int, length: int, hidden: int = 128, embedding_dim: int = 32) -> None:
        super().__init__()
        self.num_symbols = positive_size("num_symbols", num_symbols)
        self.length = positive_size("length", length)
        self.hidden, self.embedding_dim = hidden, positive_size("embedding_dim", embedding_dim)
        self.num_features = 2 * hidden
        self.embedding = nn.Embedding(num_symbols + 1, embedding_dim)
        self.read = Recurrent(embedding_dim, hidden, "both")

    def forward(self, x: Tensor) -> Tensor:
        """(*batch, 2 hidden)."""
        check_event(x, (self.length,))
        symbols = x.reshape(-1, self.length).long()
        there = (symbols == 0).cumsum(-1) == 0
        features = self.read(self.embedding(symbols), there)
        last = (there.sum(-1) - 1).clamp_min(0).reshape(-1, 1, 1).expand(-1, 1, self.hidden)
        ends = features[..., : self.hidden].gather(1, last).squeeze(1), features[:, 0, self.hidden :]
        return torch.cat(ends, -1).reshape(*x.shape[:-1], -1)


class StringEncoder(Encoder):
    r"""An encoder of strings, whose trunk is `StringFeatures`.

    Shapes: `(*batch, length)` to a pair of `(*batch, latent_dim)`.

    Args:
        num_symbols: how many symbols there are.
        length: of the rows.
        latent_dim: dimension of the latent variable.
        hidden: width of the recurrent state of each direction.
        embedding_dim: width in which a symbol is shown to the net.
        min_scale: floor of the scale, see `positive_scale`.
        max_scale: cap of the scale, see `positive_scale`.

    >>> loc, scale = StringEncoder(num_symbols=26, length=8, latent_dim=2)(torch.ones(5, 8))
    >>> loc.shape, scale.shape
    (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        num_symbols: int,
        length: int,
        latent_dim: int,
        hidden: int = 128,
        embedding_dim: int = 32,
        min_scale: float = 1e-4,
        max_scale: float = 1e2,
    ) -> None:
        trunk = StringFeatures(num_symbols, length, hidden, embedding_dim)
        super().__init__(trunk, trunk.num_features, latent_dim, min_scale, max_scale)
        self.num_symbols, self.length = num_symbols, length
        self.hidden, self.embedding_dim = hidden, embedding_dim
        self.shape = (length,)
