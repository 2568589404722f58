"""The codebooks of a plan, and what a run of a program says about its sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.compression.alphabet import Alphabet
from ppl_vae.compression.buckets import Buckets, Reference
from ppl_vae.compression.plan import DataSite, LatentSite, Plan
from ppl_vae.compression.programs import Programs

Book = Alphabet | Buckets


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
            book = kind.buckets(fn, site.layout, name) if isinstance(kind, Reference) else kind
            self.books[name], self.dtypes[name] = book, fn.sample().dtype
            return self.value(name, np.zeros((1, site.layout.num_elements), dtype=np.int32))

        programs.run("model", tensors, cut, seed=0)

    def value(self, name: str, symbols: np.ndarray) -> Tensor:
        """The value of a latent site, laid out as the program has it, from (rows, elements) symbols."""
        taken = self.books[name].take(symbols, self.dtypes[name])
        return self.sites[name].layout.as_in_site(taken)

    def table(self, name: str, fn: Any) -> np.ndarray:
        """(rows, elements, V) probabilities of a latent site's symbols."""
        return self.books[name].table(fn, self.sites[name].layout)

    def prior_table(self, name: str, fn: Any) -> np.ndarray | None:
        """The same of the prior; None where all symbols are equally likely."""
        return None if self.books[name].even else self.table(name, fn)
