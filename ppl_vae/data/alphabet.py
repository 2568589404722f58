"""Alphabets: strings as rows of whole numbers, 0 from the end on, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_vae.data.data_error import DataError


@dataclass(frozen=True)
class Alphabet:
    """Symbols, numbered from 1; 0 stands for the end of a string and what comes after it.

    Args:
        symbols: all of them, each once: letters, or tokens of several letters.

    Raises:
        DataError: for none, or one that occurs twice.

    >>> letters = Alphabet("abc")
    >>> x = letters.encode(["cab", "b"])
    >>> x.tolist(), letters.decode(x)
    ([[3, 1, 2, 0], [2, 0, 0, 0]], ['cab', 'b'])
    """

    symbols: Sequence[str]

    def __post_init__(self) -> None:
        if not self.symbols or len(set(self.symbols)) < len(self.symbols):
            raise DataError(f"an alphabet is one symbol or more, each once, got {self.symbols!r:.80}")

    @classmethod
    def of(cls, strings: Iterable[Sequence[str]]) -> Alphabet:
        """The symbols that occur, in order."""
        return cls(tuple(sorted({symbol for string in strings for symbol in string})))

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, strings: Sequence[Sequence[str]], length: int | None = None) -> Tensor:
        """(N, length) whole numbers, int16; of the longest string and one more, so that each shows its end.

        Args:
            strings: N of them, or N sequences of symbols.
            length: of the rows.

        Raises:
            DataError: for a symbol that there is not, and a string with no room for its end.
        """
        longest = max((len(string) for string in strings), default=0)
        width = longest + 1 if length is None else length
        if longest >= width:
            at = next(number for number, string in enumerate(strings) if len(string) >= width)
            raise DataError(
                f"string {at} has {len(strings[at])} symbols, and {width} leave no room for its end"
            )
        number_of = {symbol: number for number, symbol in enumerate(self.symbols, 1)}
        rows = torch.zeros(len(strings), width, dtype=torch.int16)
        for row, string in enumerate(strings):
            try:
                found = [number_of[symbol] for symbol in string]
            except KeyError as error:
                raise DataError(f"string {row}, {string!r:.80}: {error.args[0]!r} is no symbol") from None
            rows[row, : len(found)] = torch.tensor(found, dtype=torch.int16)
        return rows

    def decode(self, x: Any) -> list[str]:
        """The strings of rows (N, length)."""
        table = ("", *self.symbols)
        rows = torch.as_tensor(x).long().cpu()
        ended = (rows == 0).cumsum(-1) > 0
        return ["".join(table[number] for number in row) for row in rows.masked_fill(ended, 0).tolist()]


LETTERS = Alphabet("abcdefghijklmnopqrstuvwxyz")
"""a to z, of the data set "names"."""
