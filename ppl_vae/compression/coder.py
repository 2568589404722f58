"""The stack of bits: asymmetric numeral systems, by `constriction`, on matrices of probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppl_vae.compression.errors import CompressionError

Table = np.ndarray  # (symbols, values), float64: a row of probabilities for each symbol
LEAST = 2.0**-24
"""The smallest probability that the coder gives a symbol: its numbers have 24 bits."""

_HALF_WORD = 2**16


class Stack:
    """Words onto which symbols are pushed, and from which they are popped: the last first.

    A pop from random bits draws a symbol from its probabilities, and a push of that symbol gives the bits
    back. Either undoes the other to the last bit, whatever lies below.

    Args:
        words: uint32, the bottom first, as `words` gives them; or `fresh`.
    """

    def __init__(self, words: np.ndarray) -> None:
        constriction = required()
        self._models = constriction.stream.model
        self._family = self._models.Categorical(perfect=False, lazy=True)
        self._coder = constriction.stream.stack.AnsCoder(words)
        self.lowest = self._coder.num_words()
        """The fewest words that have been on the stack."""

    @classmethod
    def fresh(cls, num_words: int, seed: int) -> Stack:
        """Random words to draw the first symbols from."""
        words = np.random.default_rng(seed).integers(0, 2**32, num_words, dtype=np.uint32)
        words[-1:] |= 1 << 31  # an end of zeros would not count
        return cls(words)

    @property
    def reached(self) -> int:
        """How many words there are above the deepest that has been popped."""
        return int(self._coder.num_words()) - self.lowest

    @property
    def num_bits(self) -> int:
        """How many bits are on it."""
        return int(self._coder.num_valid_bits())

    def words(self) -> np.ndarray:
        """All of it, uint32, the bottom first."""
        return np.asarray(self._coder.get_compressed())

    def push(self, symbols: np.ndarray, table: Table) -> None:
        """Push symbols, (n,), each with its probabilities, (n, V): -log2 p bits each, none where V = 1."""
        if len(symbols) and table.shape[-1] > 1:
            flat = np.ascontiguousarray(symbols, dtype=np.int32)
            self._coder.encode_reverse(flat, self._family, np.ascontiguousarray(table))

    def pop(self, table: Table) -> np.ndarray:
        """The symbols, (n,), that were pushed with these probabilities, or draws from them."""
        if not len(table) or table.shape[-1] == 1:
            return np.zeros(len(table), dtype=np.int32)
        symbols = self._coder.decode(self._family, np.ascontiguousarray(table))
        self.lowest = min(self.lowest, self._coder.num_words())
        return np.asarray(symbols)

    def push_even(self, symbols: np.ndarray, size: int) -> None:
        """Push symbols that are equally likely among `size`."""
        if size > 1 and len(symbols):
            self._coder.encode_reverse(symbols.astype(np.int32), self._models.Uniform(size))

    def pop_even(self, count: int, size: int) -> np.ndarray:
        """The way back: `count` symbols."""
        if size == 1 or not count:
            return np.zeros(count, dtype=np.int32)
        symbols = self._coder.decode(self._models.Uniform(size), count)
        self.lowest = min(self.lowest, self._coder.num_words())
        return np.asarray(symbols)

    def stir(self, num_words: int, key: int, back: bool = False) -> None:
        """Move the uppermost words round by pseudo-random numbers of the key, or `back` again.

        For the next datum's latents are drawn from the bits that the last one left, and those are random only
        as far as the model is right: regular data leave regular bits, with which a draw is none of its guide.
        """
        shifts = np.random.default_rng(key).integers(0, _HALF_WORD, 2 * num_words)
        halves = self.pop_even(len(shifts), _HALF_WORD)
        self.push_even((halves - shifts if back else halves + shifts) % _HALF_WORD, _HALF_WORD)


def required() -> Any:
    """The package `constriction`.

    Raises:
        CompressionError: where it is not installed.
    """
    try:
        import constriction
    except ImportError as error:
        raise CompressionError(
            "compression needs the package constriction, an entropy coder: pip install 'ppl_vae[compress]'"
        ) from error
    return constriction
