"""A transformer's blocks: each place of a sequence looks at the places that it may see."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ppl_vae.nets.shapes import positive_size

Past = tuple[Tensor, Tensor]
r"""Keys and values of the places so far, (\*batch, heads, t, width of a head) each."""


class TransformerBlock(nn.Module):
    r"""Attention over the places that are seen, and a net at each place; both add to what was there.

    .. math:: y = x + \mathrm{attention}(\mathrm{norm}(x)), \qquad
        \mathrm{out} = y + W_2\, \mathrm{gelu}(W_1\, \mathrm{norm}(y)), \qquad
        \mathrm{attention}_t = \sum_s \mathrm{softmax}_s\Bigl(\frac{q_t \cdot k_s}{\sqrt{w}}\Bigr) v_s

    over the places s that t sees, in each of the heads. Shapes: x `(*batch, t, hidden)`, seen booleans that
    broadcast to `(*batch, t, past + t)`, to `(*batch, t, hidden)`, for any leading dims. Each place has to
    see one place at least.

    Args:
        hidden: width.
        num_heads: of equal widths, which divide `hidden`.

    Raises:
        ValueError: for a width that the heads do not divide.

    Vaswani et al., Attention Is All You Need, arXiv:1706.03762; the norms stand as in Xiong et al.,
    arXiv:2002.04745.

    >>> x, seen = torch.randn(4, 5, 8), torch.ones(5, 5, dtype=torch.bool).tril()
    >>> out, _ = TransformerBlock(8, num_heads=2)(x, seen)
    >>> out.shape
    torch.Size([4, 5, 8])
    """

    def __init__(self, hidden: int, num_heads: int = 4) -> None:
        super().__init__()
        self.hidden, self.num_heads = positive_size("hidden", hidden), positive_size("num_heads", num_heads)
        if hidden % num_heads:
            raise ValueError(f"hidden={hidden} must be a multiple of num_heads={num_heads}")
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2))
        self.query_key_value = nn.Linear(hidden, 3 * hidden)
        self.mixed = nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor, seen: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """What the places become, and the keys and values with theirs added."""
        parts = self.query_key_value(self.norms[0](x)).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)).transpose(-2, -3) for part in parts)
        if past is not None:
            key, value = torch.cat([past[0], key], -2), torch.cat([past[1], value], -2)
        score = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        weight = score.masked_fill(~seen.unsqueeze(-3), -torch.inf).softmax(-1)
        x = x + self.mixed((weight @ value).transpose(-2, -3).flatten(-2))
        return x + self.down(nn.functional.gelu(self.up(self.norms[1](x)))), (key, value)


def places(first: int, number: int, like: Tensor) -> Tensor:
    r"""(number, hidden): what tells the places first, first + 1, ... of a sequence apart, of any length.

    .. math:: \sin(t\, \omega_j),\ \cos(t\, \omega_j), \qquad \omega_j = 10^{-4 j / h}, \qquad
        h = \lceil \mathrm{hidden} / 2 \rceil

    Args:
        like: (..., hidden), of the device and dtype that is wanted.
    """
    hidden = like.shape[-1]
    half = (hidden + 1) // 2
    frequency = torch.logspace(0, -4 * (half - 1) / half, half, device=like.device, dtype=like.dtype)
    place = torch.arange(first, first + number, device=like.device, dtype=like.dtype)
    angle = place.unsqueeze(-1) * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)[:, :hidden]
