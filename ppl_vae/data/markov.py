"""`markov_strings`: strings of a hidden Markov chain, whose evidence is known exactly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.alphabet import Alphabet
from ppl_vae.data.binarise import numpy_generator
from ppl_vae.data.data_error import DataError
from ppl_vae.data.dataset import DRAW, Loaded, Part
from ppl_vae.data.naming import Naming
from ppl_vae.data.rows import ResidentRows

STATES, SYMBOLS, LENGTH, ENDING = 4, 6, 12, 0.15


class MarkovTruth(NamedTuple):
    """What `markov_strings` are drawn from: probabilities, float64.

    Attributes:
        first: (S,) of the first state.
        move: (S, S + 1) from a state to the next; the last is the end.
        emit: (S, A) of the symbols 1 ... A in a state.
    """

    first: Tensor
    move: Tensor
    emit: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        r"""(N,) nats: the evidence of strings (N, T), 0 from the end on, by the forward algorithm.

        .. math:: \alpha_1 = \pi \odot B_{x_1}, \qquad \alpha_{t+1} = (\alpha_t M) \odot B_{x_{t+1}}, \qquad
            p(x) = \alpha_n\, m_{\mathrm{end}}

        A string that fills all T places ends there with certainty.

        >>> truth = markov_truth()
        >>> truth.log_prob(torch.tensor([[1, 2, 0], [1, 0, 0]])).shape
        torch.Size([2])
        """
        tokens = x.long()
        weight, total = self.first * self.emit.T[tokens[:, 0] - 1], x.new_zeros(len(x), dtype=torch.float64)
        for step in range(1, tokens.shape[1]):
            now, open_ = tokens[:, step], tokens[:, step - 1] != 0
            ended = (weight @ self.move[:, -1]).log()
            total = torch.where(open_ & (now == 0), ended, total)
            moved = (weight @ self.move[:, :-1]) * self.emit.T[now - 1]
            weight = torch.where((now != 0).unsqueeze(-1), moved, weight)
        return torch.where(tokens[:, -1] != 0, weight.sum(-1).log(), total)


def markov_truth(seed: int = 0) -> MarkovTruth:
    """What `load("markov_strings", seed=seed)` was drawn from."""
    return _truth(numpy_generator(seed, DRAW))


def markov_strings(num_data: int, rng: np.random.Generator, size: tuple[int, int] | None) -> Loaded:
    """Strings of six symbols from a hidden chain of four states: x, (N, 12), 0 from the end on.

    One symbol at least; eleven at most but for a twelfth place that would end them. The factors are the
    states, -1 where there is none.
    """
    if size is not None:
        raise DataError("markov_strings holds sequences, which have no image_size; leave it out")
    truth = _truth(rng)
    first, move, emit = (part.numpy() for part in truth)
    x, states = np.zeros((num_data, LENGTH)), np.full((num_data, LENGTH), -1)
    state = _choose(np.broadcast_to(first, (num_data, STATES)), rng)
    for step in range(LENGTH):
        there = state < STATES
        row = np.where(there, state, 0)
        x[:, step] = np.where(there, 1 + _choose(emit[row], rng), 0)
        states[:, step] = np.where(there, state, -1)
        state = np.where(there, _choose(move[row], rng), STATES)
    names = tuple(f"state_{step}" for step in range(LENGTH))
    rows, known = (torch.from_numpy(each.astype(np.float32)) for each in (x, states))
    naming = Naming(alphabet=Alphabet("abcdef"[:SYMBOLS]))
    return Loaded(Part(ResidentRows(rows), None, known), factor_names=names, naming=naming)


def _truth(rng: np.random.Generator) -> MarkovTruth:
    first = rng.dirichlet(np.ones(STATES))
    move = rng.dirichlet(np.full(STATES, 0.4), STATES) * (1 - ENDING)
    move = np.concatenate([move, np.full((STATES, 1), ENDING)], 1)
    emit = rng.dirichlet(np.full(SYMBOLS, 0.3), STATES)
    emit = 0.95 * emit + 0.05 / SYMBOLS  # every string is possible
    return MarkovTruth(*(torch.from_numpy(part) for part in (first, move, emit)))


def _choose(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,): of each row (N, C) one of its C."""
    passed = probabilities.cumsum(1) < rng.random((len(probabilities), 1))
    return np.minimum(passed.sum(1), probabilities.shape[1] - 1)
