"""The codebooks of a plan, and what a run of a program says about its sites."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.compression.alphabet import Alphabet
from ppl_vae.compression.buckets import Buckets, Reference
from ppl_vae.compression.coder import Stack
from ppl_vae.compression.plan import DataSite, LatentSite, Plan
from ppl_vae.compression.programs import Programs
from ppl_vae.core.succession import Succession

Book = Alphabet | Buckets
Choice = Callable[[np.ndarray, Any], np.ndarray]
"""From the probabilities (rows, elements, V) of some elements, and which they are, to their symbols."""


class Books:
    """The codebook of each latent site, and the observed sites by name.

    Args:
        plan: which sites there are.
        programs: whose model has the priors that buckets are cut by.
        tensors: one row of a batch, in which what the sites observe is not looked at.
    """

    def __init__(self, plan: Plan, programs: Programs, tensors: Sequence[Tensor]) -> None:
        self.data: dict[str, DataSite] = {site.name: site for site in plan.data}
        self.sites: dict[str, LatentSite] = {site.name: site for site in plan.latents}
        self.books: dict[str, Book] = {}
        self.dtypes: dict[str, torch.dtype] = {}

        def cut(name: str, fn: Any, value: Tensor | None) -> Tensor:
            if value is not None:
                return value
            site = self.sites[name]
            kind = site.kind
            whole = fn.fn if isinstance(fn, Succession) else fn
            part = fn.first() if isinstance(fn, Succession) else fn
            book = kind.buckets(part, site.layout, name) if isinstance(kind, Reference) else kind
            self.books[name], self.dtypes[name] = book, whole.sample().dtype
            return self.value(name, np.zeros((1, site.layout.num_elements), dtype=np.int32))

        programs.run("model", tensors, cut, seed=0)

    def value(self, name: str, symbols: np.ndarray) -> Tensor:
        """The value of a latent site, laid out as the program has it, from (rows, elements) symbols."""
        taken = self.books[name].take(symbols, self.dtypes[name])
        return self.sites[name].layout.as_in_site(taken)

    def choose(self, name: str, fn: Any, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
        """(rows, elements) symbols of a latent site, chosen part after part, each from its probabilities
        given those before it; and all these probabilities, (rows, elements, V).
        """
        book, layout = self.books[name], self.sites[name].layout
        if not isinstance(fn, Succession):
            table = book.table(fn, layout)
            return choice(table, slice(None)), table
        rows = fn.fn.batch_shape[len(layout.inner)]
        symbols = np.zeros((rows, layout.num_elements), dtype=np.int32)
        tables = np.empty((rows, layout.num_elements, len(book)))
        for number, part in enumerate(layout.parts()):
            before = layout.before(self.value(name, symbols), number)
            own = part.numpy()
            tables[:, own] = book.part(part).table(fn.following(before), layout.part())
            symbols[:, own] = choice(tables[:, own], own)
        return symbols, tables

    def table(self, name: str, fn: Any, symbols: np.ndarray) -> np.ndarray:
        """(rows, elements, V) probabilities of a latent site's elements; where they come one after the other
        given these symbols, (rows, elements), of those before.
        """
        return self.choose(name, fn, lambda _, part: symbols[:, part])[1]

    def prior_table(self, name: str, fn: Any, symbols: np.ndarray) -> np.ndarray | None:
        """The same of the prior; None where all symbols are equally likely."""
        return None if self.books[name].even else self.table(name, fn, symbols)

    def pop(self, stack: Stack, name: str, fn: Any) -> tuple[np.ndarray, np.ndarray]:
        """Pop a latent site's symbols, (rows, elements), and their probabilities, (rows, elements, V)."""
        return self.choose(name, fn, lambda table, _: stack.pop(flat(table)).reshape(table.shape[:2]))

    def push(self, stack: Stack, name: str, fn: Any, symbols: np.ndarray, table: np.ndarray) -> None:
        """Push symbols, (n, elements), with these probabilities, (n, elements, V), the first part last."""
        parts = self.sites[name].layout.parts() if isinstance(fn, Succession) else [slice(None)]
        for part in reversed(parts):
            stack.push(symbols[:, part].reshape(-1), flat(table[:, part]))


def flat(table: np.ndarray) -> np.ndarray:
    """(rows, elements, V) as a row for each symbol."""
    return table.reshape(-1, table.shape[-1])
