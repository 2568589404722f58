"""Strings of symbols: names, words, molecules, written one symbol after another by a recurrent net."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.likelihoods.string_writer import StringWriter
from ppl_vae.nets.scale import at_least_float32


class Strings(StringWriter):
    r"""Strings of up to `length` symbols, each drawn given those before it and what the latents say.

    .. math:: \log p(x \mid z) = \sum_{t=1}^{n+1} \log p(x_t \mid x_{<t}, c), \qquad c = \mathrm{decoder}(z),
        \qquad x_{n+1} = \text{end}

    by a gated recurrent net (GRU) that begins at c and sees it beside each symbol. Support: rows (length,) of
    whole numbers, 1 ... num_symbols and 0 from the end on, as `data.Alphabet` makes them, stored as floats or
    integers; samples are long. The probabilities of all strings of up to `length` symbols sum to one. The
    distribution has no mean; its mode is written by taking the likeliest symbol at each place.

    A net that sees all symbols so far may do without z, and the KL term falls to zero. Against that stand
    `word_dropout`, `kl.FreeBits` and `kl.LinearWarmup`. With word dropout the training's bound is that of a
    model with gaps in its memory; in eval mode there are none.

    Args:
        num_symbols: A.
        length: T, the width of the data: the longest string and one more.
        condition_dim: width of c, which the decoder makes.
        hidden: width of the recurrent state.
        embedding_dim: width in which a symbol is shown to the net.
        word_dropout: the probability that a symbol is hidden from the net while training.

    Raises:
        ValueError: for sizes below 1 and a word_dropout outside [0, 1]; from `check`, and from `log_prob`
            when validation is on, for data that are no strings.

    Bowman et al., Generating Sentences from a Continuous Space, arXiv:1511.06349.

    >>> from ppl_vae import data
    >>> x = data.LETTERS.encode(["emma", "ava"], length=8)
    >>> likelihood = Strings(num_symbols=26, length=8)
    >>> likelihood(torch.zeros(2, *likelihood.raw_shape((8,)))).log_prob(x).shape
    torch.Size([2])
    """

    def __init__(
        self,
        num_symbols: int,
        length: int,
        condition_dim: int = 32,
        hidden: int = 128,
        embedding_dim: int = 32,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__(num_symbols, length, condition_dim, word_dropout)
        self.hidden, self.embedding_dim = hidden, embedding_dim
        self.embedding = nn.Embedding(num_symbols + 2, embedding_dim)  # the beginning, symbols, a hidden one
        self.start = nn.Linear(condition_dim, hidden)
        self.cell = nn.GRU(embedding_dim + condition_dim, hidden, batch_first=True)
        self.head = nn.Linear(hidden, num_symbols + 1)

    def write(self, before: Tensor, condition: Tensor, state: Any) -> tuple[Tensor, Any]:
        lead, rows = before.shape, math.prod(before.shape[:-1])
        if state is None:
            before = self.with_gaps(before)
        flat = condition.reshape(rows, 1, self.condition_dim)
        seen = self.embedding(before).reshape(rows, lead[-1], self.embedding_dim)
        if state is None:
            state = torch.tanh(self.start(flat)).transpose(0, 1).contiguous()
        found, state = self.cell(torch.cat([seen, flat.expand(-1, lead[-1], -1).to(seen)], -1), state)
        logits = at_least_float32(self.head(found))
        return logits.reshape(*lead, self.num_symbols + 1), state
