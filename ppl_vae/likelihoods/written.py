"""Written: a distribution over strings, each symbol given those before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from ppl_vae.likelihoods.support import require

Writer = Callable[[Tensor, Tensor, Any], tuple[Tensor, Any]]
r"""What comes next: from the symbols before t places, (\*batch, t), a condition (\*batch, C) and the state in
which it left off (None at the beginning) to the logits (\*batch, t, A + 1) of the end and of the A symbols at
those places, and the state after them. Place by place and all at once it says the same.
"""


class Written(TorchDistribution):
    r"""Strings of up to T symbols 1 ... A, 0 from the end on.

    .. math:: p(x) = \Bigl(\prod_{t=1}^{n} p(x_t \mid x_{<t})\Bigr)\, p(\text{end} \mid x_{1:n}), \qquad n < T

    A string of T symbols ends there with certainty, so that the probabilities of all strings sum to one. What
    comes after an end counts for nothing: more places change no shorter string's probability.

    Args:
        writer: see `Writer`.
        condition: what the strings are to be like, (\*batch, C).
        num_symbols: A.
        length: T.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, writer: Writer, condition: Tensor, num_symbols: int, length: int) -> None:
        self.writer, self.condition, self.num_symbols = writer, condition, num_symbols
        super().__init__(condition.shape[:-1], torch.Size((length,)))

    @property
    def support(self) -> constraints.Constraint:
        """Rows of whole numbers from 0 to A, zeros after the first 0."""
        return StringsOf(self.num_symbols)

    def check(self, x: Tensor) -> None:
        """Raise ValueError for what is no string."""
        check_strings(x, self.num_symbols)

    def expand(self, batch_shape: Any, _instance: object = None) -> Written:
        """The same distributions for a larger batch shape."""
        condition = self.condition.expand(*batch_shape, -1)
        return Written(self.writer, condition, self.num_symbols, self.event_shape[0])

    def log_prob(self, value: Tensor) -> Tensor:
        """(..., *batch) nats."""
        if self._validate_args:
            self.check(value)
        lead = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        symbols = value.long().expand(*lead, -1)
        before = torch.cat([torch.zeros_like(symbols[..., :1]), symbols[..., :-1]], -1)
        logits, _ = self.writer(before, self.condition.expand(*lead, -1), None)
        density = logits.log_softmax(-1).gather(-1, symbols.unsqueeze(-1)).squeeze(-1)
        counts = before != 0
        counts[..., 0] = True  # where 0 stands for the beginning
        return torch.where(counts, density, 0.0).sum(-1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draws, (*sample_shape, *batch, T) whole numbers."""
        return self._write(
            torch.Size(sample_shape), lambda logits: torch.distributions.Categorical(logits=logits).sample()
        )

    @property
    def mode(self) -> Tensor:
        """(*batch, T): at each place the likeliest symbol after those before it; other strings may be
        likelier as wholes.
        """
        return self._write(torch.Size(), lambda logits: logits.argmax(-1))

    @torch.no_grad()
    def _write(self, sample_shape: torch.Size, choose: Callable[[Tensor], Tensor]) -> Tensor:
        lead = sample_shape + self.batch_shape
        condition, state = self.condition.expand(*lead, -1), None
        last = torch.zeros(lead, dtype=torch.long, device=condition.device)
        open_, written = torch.ones_like(last, dtype=torch.bool), []
        for _ in range(self.event_shape[0]):
            logits, state = self.writer(last.unsqueeze(-1), condition, state)
            last = choose(logits.squeeze(-2)) * open_
            open_ = open_ & (last != 0)
            written.append(last)
        return torch.stack(written, -1)


class StringsOf(constraints.Constraint):
    """Rows of whole numbers from 0 to the number of symbols, zeros after the first 0."""

    is_discrete, event_dim = True, 1

    def __init__(self, num_symbols: int) -> None:
        self.num_symbols = num_symbols
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        known = (value >= 0) & (value <= self.num_symbols) & (value == value.round())
        ended = (value == 0).cumsum(-1) > 0
        return (known & ((value == 0) | ~ended)).all(-1)


def check_strings(x: Tensor, num_symbols: int) -> None:
    """Raise ValueError for rows that are no strings of so many symbols."""
    known = (x >= 0) & (x <= num_symbols) & (x == x.round())
    what = f"whole numbers, 0 for the end and 1 ... {num_symbols} for symbols"
    require("Strings", known, x, what, "data.Alphabet(symbols).encode(strings) makes them")
    after = (x != 0) & ((x == 0).cumsum(-1) > 0)
    require("Strings", ~after, x, "0 from the end of a string on", "number the symbols from 1")
