"""What the likelihoods of strings have in common, whichever net writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.likelihoods.written import Written, check_strings
from ppl_vae.nets.shapes import positive_size


class StringWriter(nn.Module):
    """A likelihood of strings but for `write`, the net, which `Strings` and `TransformerStrings` have.

    Args:
        num_symbols: A.
        length: T, the width of the data.
        condition_dim: width of the raw output.
        word_dropout: the probability that a symbol is hidden from the net while training.

    Raises:
        ValueError: for sizes below 1 and a word_dropout outside [0, 1].
    """

    event_dim = 1

    def __init__(self, num_symbols: int, length: int, condition_dim: int, word_dropout: float) -> None:
        super().__init__()
        if not 0 <= word_dropout <= 1:
            raise ValueError(
                f"likelihoods.{type(self).__name__}: word_dropout must lie in [0, 1], got {word_dropout!r}"
            )
        self.num_symbols = positive_size("num_symbols", num_symbols)
        self.length = positive_size("length", length)
        self.condition_dim = positive_size("condition_dim", condition_dim)
        self.word_dropout = word_dropout

    def write(self, before: Tensor, condition: Tensor, state: Any) -> tuple[Tensor, Any]:
        """What comes next, as `written.Writer` has it."""
        raise NotImplementedError

    def with_gaps(self, before: Tensor) -> Tensor:
        """The symbols, some of them hidden where this is trained with word dropout."""
        if not (self.training and self.word_dropout):
            return before
        lost = (torch.rand(before.shape, device=before.device) < self.word_dropout) & (before != 0)
        return before.masked_fill(lost, self.num_symbols + 1)

    def forward(self, raw: Tensor) -> Written:
        """The distribution over strings given c, (\\*batch, condition_dim)."""
        if raw.shape[-1] != self.condition_dim:
            raise ValueError(
                f"likelihoods.{type(self).__name__}: raw output of width {raw.shape[-1]}, expected "
                f"condition_dim={self.condition_dim}: build the decoder with "
                f"shape=likelihood.raw_shape(data_shape)"
            )
        return Written(self.write, raw, self.num_symbols, self.length)

    def raw_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of c, for data of shape (length,)."""
        if tuple(shape) != (self.length,):
            raise ValueError(
                f"likelihoods.{type(self).__name__}: built for strings of length={self.length}, and the data "
                f"have the event shape {tuple(shape)}"
            )
        return (self.condition_dim,)

    def initial_bias(self, mean: Tensor) -> Tensor:
        """Zeros: strings have no mean to start at."""
        return mean.new_zeros(self.condition_dim)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the values that are no string."""
        check_strings(x, self.num_symbols)

    def extra_repr(self) -> str:
        return f"num_symbols={self.num_symbols}, length={self.length}, word_dropout={self.word_dropout:g}"
