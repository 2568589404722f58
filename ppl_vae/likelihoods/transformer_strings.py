"""Strings of symbols, written one symbol after another by a transformer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.likelihoods.string_writer import StringWriter
from ppl_vae.nets.scale import at_least_float32
from ppl_vae.nets.shapes import positive_size
from ppl_vae.nets.transformer import TransformerBlock, places


class TransformerStrings(StringWriter):
    r"""Strings of up to `length` symbols, each drawn given those before it, at which attention looks, and c.

    .. math:: \log p(x \mid z) = \sum_{t=1}^{n+1} \log p(x_t \mid x_{<t}, c), \qquad c = \mathrm{decoder}(z),
        \qquad x_{n+1} = \text{end}

    As `likelihoods.Strings` in all but the net: blocks of causal attention over the embedded symbols, to each
    of which a linear function of c is added. While a string is written the keys and values of what stands are
    kept. The data, the probabilities' sum, the mode and `word_dropout` are described there.

    Args:
        num_symbols: A.
        length: T, the width of the data: the longest string and one more.
        condition_dim: width of c, which the decoder makes.
        hidden: width of the net.
        num_layers: how many blocks.
        num_heads: of each.
        word_dropout: the probability that a symbol is hidden from the net while training.

    Raises:
        ValueError: for sizes below 1, heads that do not divide the width and a word_dropout outside [0, 1];
            from `check`, and from `log_prob` when validation is on, for data that are no strings.

    Vaswani et al., Attention Is All You Need, arXiv:1706.03762; Li et al., Optimus, arXiv:2004.04092, for a
    text VAE of them.

    >>> from ppl_vae import data
    >>> x = data.LETTERS.encode(["emma", "ava"], length=8)
    >>> likelihood = TransformerStrings(num_symbols=26, length=8, hidden=16)
    >>> likelihood(torch.zeros(2, *likelihood.raw_shape((8,)))).log_prob(x).shape
    torch.Size([2])
    """

    def __init__(
        self,
        num_symbols: int,
        length: int,
        condition_dim: int = 32,
        hidden: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__(num_symbols, length, condition_dim, word_dropout)
        self.hidden = hidden
        self.num_layers, self.num_heads = positive_size("num_layers", num_layers), num_heads
        self.embedding = nn.Embedding(num_symbols + 2, hidden)  # the beginning, symbols, a hidden one
        self.told = nn.Linear(condition_dim, hidden)
        self.blocks = nn.ModuleList(TransformerBlock(hidden, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, num_symbols + 1)

    def write(self, before: Tensor, condition: Tensor, state: Any) -> tuple[Tensor, Any]:
        """What comes next, as `written.Writer` has it; the state is each block's keys and values."""
        if state is None:
            before, state = self.with_gaps(before), [None] * self.num_layers
        number = before.shape[-1]
        past = 0 if state[0] is None else state[0][0].shape[-2]
        found = self.embedding(before) + self.told(condition).unsqueeze(-2)
        found = found + places(past, number, found)
        seen = torch.ones(number, past + number, dtype=torch.bool, device=found.device).tril(past)
        kept = []
        for block, known in zip(self.blocks, state, strict=True):
            found, now = block(found, seen, known)
            kept.append(now)
        return at_least_float32(self.head(self.norm(found))), kept
