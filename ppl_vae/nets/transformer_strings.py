"""An encoder of strings: a transformer whose first place asks all symbols."""

from __future__ import annotations

from torch import Tensor, nn

from ppl_vae.nets.encoder import Encoder
from ppl_vae.nets.shapes import check_event, positive_size
from ppl_vae.nets.transformer import TransformerBlock, places


class TransformerStringFeatures(nn.Module):
    r"""What a place before a string has gathered from all of its symbols, after some blocks of attention.

    Shapes: rows `(*batch, length)` of whole numbers, 0 from the end on (`data.Alphabet`), to
    `(*batch, hidden)`. What comes after the end is not looked at.

    Args:
        num_symbols: how many symbols there are.
        length: of the rows.
        hidden: width.
        num_layers: how many blocks.
        num_heads: of each.
    """

    def __init__(
        self, num_symbols: int, length: int, hidden: int = 128, num_layers: int = 2, num_heads: int = 4
    ) -> None:
        super().__init__()
        self.num_symbols = positive_size("num_symbols", num_symbols)
        self.length = positive_size("length", length)
        self.hidden = self.num_features = positive_size("hidden", hidden)
        self.num_layers, self.num_heads = positive_size("num_layers", num_layers), num_heads
        self.embedding = nn.Embedding(num_symbols + 1, hidden)  # the first place, symbols
        self.blocks = nn.ModuleList(TransformerBlock(hidden, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(*batch, hidden)."""
        check_event(x, (self.length,))
        symbols = x.reshape(-1, self.length).long()
        asked = nn.functional.pad(symbols, (1, 0))
        there = nn.functional.pad((symbols == 0).cumsum(-1) == 0, (1, 0), value=True)
        found = self.embedding(asked)
        found = found + places(0, self.length + 1, found)
        for block in self.blocks:
            found, _ = block(found, there.unsqueeze(-2))
        features: Tensor = self.norm(found[:, 0])
        return features.reshape(*x.shape[:-1], -1)


class TransformerStringEncoder(Encoder):
    r"""An encoder of strings, whose trunk is `TransformerStringFeatures`.

    Shapes: `(*batch, length)` to a pair of `(*batch, latent_dim)`.

    Args:
        num_symbols: how many symbols there are.
        length: of the rows.
        latent_dim: dimension of the latent variable.
        hidden: width.
        num_layers: how many blocks of attention.
        num_heads: of each.
        min_scale: floor of the scale, see `positive_scale`.
        max_scale: cap of the scale, see `positive_scale`.

    >>> import torch
    >>> net = TransformerStringEncoder(num_symbols=26, length=8, latent_dim=2, hidden=16)
    >>> loc, scale = net(torch.ones(5, 8))
    >>> loc.shape, scale.shape
    (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        num_symbols: int,
        length: int,
        latent_dim: int,
        hidden: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        min_scale: float = 1e-4,
        max_scale: float = 1e2,
    ) -> None:
        trunk = TransformerStringFeatures(num_symbols, length, hidden, num_layers, num_heads)
        super().__init__(trunk, hidden, latent_dim, min_scale, max_scale)
        self.num_symbols, self.length = num_symbols, length
        self.hidden, self.num_layers, self.num_heads = hidden, num_layers, num_heads
        self.shape = (length,)
