"""Bits back: a batch of data pushed onto a stack of bits, and popped from it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.compression.books import Books, flat
from ppl_vae.compression.coder import LEAST, Stack
from ppl_vae.compression.plan import Plan
from ppl_vae.compression.programs import Programs

Symbols = dict[str, np.ndarray]
Gaps = dict[str, np.ndarray]


class BitsBack:
    r"""Pops z from q(z | x), pushes x under p(x | z) and z under p(z): -log2 p(x, z) + log2 q(z | x) bits.

    On average that is the negative ELBO. With K samples it pops z_1, ..., z_K from the guide and one of
    them, k, by its importance weight w_k, pushes the others back under the guide, x and z_k under the model,
    and k among K equals: -log2 of the mean weight, the K-sample bound.

    Townsend, Bird and Barber, Practical Lossless Compression with Latent Variables using Bits Back Coding,
    arXiv:1901.04866. Ruan et al., Improving Lossless Compression Rates via Monte Carlo Bits-Back Coding
    (BB-IS), arXiv:2102.11086.
    """

    def __init__(self, plan: Plan, programs: Programs, books: Books) -> None:
        self.plan, self.programs, self.books = plan, programs, books

    def encode(self, stack: Stack, batch: Sequence[Tensor], gaps: Gaps, seed: int) -> None:
        """Push a batch.

        Args:
            batch: the tensors of the programs.
            gaps: (rows, elements) of observed sites with missing values, True where they are missing.
            seed: of what the programs draw by themselves.
        """
        count = self.plan.num_samples
        many = repeated(batch, count)
        symbols, tables, fns = Symbols(), Symbols(), dict[str, Any]()

        def draw(name: str, fn: Any, value: Tensor | None) -> Tensor:
            symbols[name], tables[name] = self.books.pop(stack, name, fn)
            fns[name] = fn
            return self.books.value(name, symbols[name])

        self.programs.run("guide", many, draw, seed)
        chosen = np.zeros(len(batch[0]), dtype=np.int64)
        if count > 1:
            weights = self.weights(many, symbols, tables, seed)
            chosen = stack.pop(weights).astype(np.int64)
            for name in reversed(self.plan.guide_order):
                others = rest(symbols[name], chosen), rest(tables[name], chosen)
                self.books.push(stack, name, fns[name], *others)
        self.push_model(
            stack, batch, {name: pick(each, chosen) for name, each in symbols.items()}, gaps, seed
        )
        stack.push_even(chosen, count)

    def push_model(
        self, stack: Stack, batch: Sequence[Tensor], symbols: Symbols, gaps: Gaps, seed: int
    ) -> None:
        """Push the data and one draw of the latents under the model, the first site last."""
        pushes: list[Callable[[], None]] = []

        def note(name: str, fn: Any, value: Tensor | None) -> Tensor:
            if value is None:
                pushes.append(partial(self.push_latent, stack, name, fn, symbols[name]))
                return self.books.value(name, symbols[name])
            pushes.append(partial(self.push_data, stack, name, fn, batch, gaps.get(name)))
            return value

        self.programs.run("model", batch, note, seed)
        for push in reversed(pushes):
            push()

    def push_latent(self, stack: Stack, name: str, fn: Any, symbols: np.ndarray) -> None:
        """Push the symbols of a latent site, (rows, elements), under its prior."""
        table = self.books.prior_table(name, fn, symbols)
        if table is None:
            stack.push_even(symbols.reshape(-1), len(self.books.books[name]))
        else:
            self.books.push(stack, name, fn, symbols, table)

    def pop_latent(self, stack: Stack, name: str, fn: Any, rows: int) -> np.ndarray:
        """The way back."""
        book, elements = self.books.books[name], self.books.sites[name].layout.num_elements
        if book.even:
            return stack.pop_even(rows * elements, len(book)).reshape(rows, elements)
        return self.books.pop(stack, name, fn)[0]

    def push_data(
        self, stack: Stack, name: str, fn: Any, batch: Sequence[Tensor], gaps: np.ndarray | None
    ) -> None:
        """Push an observed site's values in a batch that are not missing."""
        site = self.books.data[name]
        symbols = site.symbols(fn, site.values_in(batch), gaps)
        for each, table in reversed(list(zip(symbols, site.tables(fn), strict=True))):
            stack.push(each[each >= 0], table[each >= 0])

    def pop_data(
        self, stack: Stack, name: str, fn: Any, batch: list[Tensor], gaps: np.ndarray | None
    ) -> Tensor:
        """The way back: the values go into the batch too."""
        site, parts = self.books.data[name], []
        for table, gap in zip(site.tables(fn), site.part_gaps(fn, gaps), strict=True):
            symbols = np.full(table.shape[:2], -1, dtype=np.int32)
            seen = np.ones(table.shape[:2], dtype=bool) if gap is None else ~gap
            symbols[seen] = stack.pop(table[seen])
            parts.append(symbols)
        like = batch[site.argument]
        values = site.values(fn, parts, like)
        batch[site.argument] = site.layout.rows_first(values).reshape(like.shape)
        return values

    def decode(self, stack: Stack, batch: Sequence[Tensor], gaps: Gaps, seed: int) -> tuple[Tensor, ...]:
        """Pop a batch.

        Args:
            batch: tensors of the batch's shapes and types: what the sites observe is not looked at.
            gaps, seed: as they were for `encode`.

        Returns:
            The batch.
        """
        count, rows = self.plan.num_samples, len(batch[0])
        chosen = stack.pop_even(rows, count).astype(np.int64)
        batch, known = self.pop_model(stack, batch, gaps, seed)
        many = repeated(batch, count)
        symbols, tables, fns = Symbols(), Symbols(), dict[str, Any]()

        def follow(name: str, fn: Any, value: Tensor | None) -> Tensor:
            def choice(table: np.ndarray, part: Any) -> np.ndarray:
                found = np.empty((rows, count, table.shape[1]), dtype=np.int32)
                found[np.arange(rows), chosen] = known[name][:, part]
                if count > 1:
                    others = rest(table, chosen)
                    popped = stack.pop(flat(others)).reshape(others.shape[:2])
                    found[others_of(rows, count, chosen)] = popped
                return found.reshape(table.shape[:2])

            symbols[name], tables[name] = self.books.choose(name, fn, choice)
            fns[name] = fn
            return self.books.value(name, symbols[name])

        self.programs.run("guide", many, follow, seed)
        if count > 1:
            stack.push(chosen, self.weights(many, symbols, tables, seed))
        for name in reversed(self.plan.guide_order):
            self.books.push(stack, name, fns[name], symbols[name], tables[name])
        return tuple(batch)

    def pop_model(
        self, stack: Stack, batch: Sequence[Tensor], gaps: Gaps, seed: int
    ) -> tuple[list[Tensor], Symbols]:
        """Pop one draw of the latents, and the data, under the model."""
        found, known = list(batch), Symbols()

        def pop(name: str, fn: Any, value: Tensor | None) -> Tensor:
            if value is None:
                known[name] = self.pop_latent(stack, name, fn, len(batch[0]))
                return self.books.value(name, known[name])
            return self.pop_data(stack, name, fn, found, gaps.get(name)).to(value.dtype)

        self.programs.run("model", batch, pop, seed)
        return found, known

    def weights(self, many: Sequence[Tensor], symbols: Symbols, tables: Symbols, seed: int) -> np.ndarray:
        """(B, K) probabilities of the samples: their importance weights, of the symbols as they are coded."""
        log_weight = np.zeros(len(many[0]))
        for name, table in tables.items():
            log_weight -= log_mass(table, symbols[name])

        def add(name: str, fn: Any, value: Tensor | None) -> Tensor:
            nonlocal log_weight
            if value is None:
                table = self.books.prior_table(name, fn, symbols[name])
                if table is not None:
                    log_weight += log_mass(table, symbols[name])
                return self.books.value(name, symbols[name])
            site = self.books.data[name]
            terms = site.layout.rows_first(fn.log_prob(value))
            log_weight += terms.double().sum(1).numpy()
            return value

        self.programs.run("model", many, add, seed)
        each = torch.from_numpy(log_weight).reshape(-1, self.plan.num_samples)
        return each.softmax(1).numpy()


def repeated(batch: Sequence[Tensor], count: int) -> tuple[Tensor, ...]:
    """Each row `count` times, one after the other."""
    return tuple(batch) if count == 1 else tuple(each.repeat_interleave(count, 0) for each in batch)


def log_mass(table: np.ndarray, symbols: np.ndarray) -> np.ndarray:
    """(rows,) log-probabilities of symbols (rows, elements)."""
    taken = np.take_along_axis(table, symbols[..., None].astype(np.int64), -1)[..., 0]
    return np.log(np.maximum(taken, LEAST)).sum(1)


def others_of(rows: int, count: int, chosen: np.ndarray) -> np.ndarray:
    """(rows, K): all samples but the chosen one."""
    mask = np.ones((rows, count), dtype=bool)
    mask[np.arange(rows), chosen] = False
    return mask


def pick(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The chosen sample of each row."""
    each = values.reshape(len(chosen), -1, *values.shape[1:])
    return each[np.arange(len(chosen)), chosen]


def rest(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The samples that were not chosen."""
    each = values.reshape(len(chosen), -1, *values.shape[1:])
    return each[others_of(len(chosen), each.shape[1], chosen)]
