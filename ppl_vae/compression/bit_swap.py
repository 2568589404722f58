"""Bit-Swap: pops and pushes in turn along a chain of latents, which needs fewer bits to start with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.compression.bits_back import BitsBack, Gaps, Symbols
from ppl_vae.compression.coder import Stack
from ppl_vae.compression.programs import Role

Known = dict[str, np.ndarray]


class BitSwap(BitsBack):
    r"""Bits back for a chain, x - z_1 - ... - z_L, along which model and guide go in opposite directions.

    Pops z_1 from q(z_1 | x), pushes x under p(x | z_1), pops z_2 from q(z_2 | z_1), pushes z_1 under
    p(z_1 | z_2), and so on: the rate is that of `BitsBack`, but what has been pushed serves the next pop, so
    that a chain starts with the bits of one layer and not of all.

    Kingma, Abbeel and Ho, Bit-Swap: Recursive Bits-Back Coding for Lossless Compression with Hierarchical
    Latent Variables, arXiv:1905.06845.
    """

    def is_chain(self, batch: Sequence[Tensor]) -> bool:
        """Whether the pair is such a chain: found by giving every site other values than its neighbour's."""
        guide = self.plan.guide_order
        upwards = [name for name in self.plan.model_order if name not in self.books.data]
        if len(guide) < 2 or upwards != list(reversed(guide)) or self.plan.num_samples > 1:
            return False
        if self.plan.model_order[len(upwards) :] != tuple(self.books.data):
            return False
        generator = np.random.default_rng(0)
        one, two = self._random(batch, generator), self._random(batch, generator)
        coded = {site.argument for site in self.plan.data}
        rolled = [each.roll(1, 0) if number in coded else each for number, each in enumerate(batch)]
        blank = [torch.zeros_like(x) if number in coded else x for number, x in enumerate(batch)]
        for number, name in enumerate(guide):
            below = guide[number - 1] if number else None
            for other in (rolled, blank):
                changed = batch if below is None else other
                if not self._same("guide", name, (batch, one), (changed, _but(two, one, below))):
                    return False
            above = guide[number + 1] if number + 1 < len(guide) else None
            if not self._same("model", name, (batch, one), (rolled, _but(two, one, above))):
                return False
        return all(
            self._same("model", name, (batch, one), (rolled, _but(two, one, guide[0])))
            for name in self.books.data
        )

    def encode(self, stack: Stack, batch: Sequence[Tensor], gaps: Gaps, seed: int) -> None:
        """Push a batch, as `BitsBack.encode`."""
        guide, known = self.plan.guide_order, Symbols()
        for number, name in enumerate(guide):
            known[name], _ = self.books.pop(stack, name, self._fns("guide", batch, known, seed)[name])
            fns = self._fns("model", batch, known, seed)
            for each in reversed(self.books.data) if number == 0 else ():
                self.push_data(stack, each, fns[each], batch, gaps.get(each))
            if number:
                below = guide[number - 1]
                self.push_latent(stack, below, fns[below], known[below])
        self.push_latent(stack, guide[-1], fns[guide[-1]], known[guide[-1]])

    def decode(self, stack: Stack, batch: Sequence[Tensor], gaps: Gaps, seed: int) -> tuple[Tensor, ...]:
        """Pop a batch, as `BitsBack.decode`."""
        known = Symbols()
        downwards = list(reversed(self.plan.guide_order))
        for number, name in enumerate(downwards):
            fn = self._fns("model", batch, known, seed)[name]
            known[name] = self.pop_latent(stack, name, fn, len(batch[0]))
            if number:
                self._return(stack, batch, downwards[number - 1], known, seed)
        fns, found = self._fns("model", batch, known, seed), list(batch)
        for name in self.books.data:
            self.pop_data(stack, name, fns[name], found, gaps.get(name))
        self._return(stack, found, downwards[-1], known, seed)
        return tuple(found)

    def _return(self, stack: Stack, batch: Sequence[Tensor], name: str, known: Known, seed: int) -> None:
        """Push a latent under the guide: the bits that its draw took."""
        fn = self._fns("guide", batch, known, seed)[name]
        self.books.push(stack, name, fn, known[name], self.books.table(name, fn, known[name]))

    def _fns(self, role: Role, batch: Sequence[Tensor], known: Known, seed: int) -> dict[str, Any]:
        """The distributions of a program's sites, with symbols 0 for latents that are not known yet."""
        fns = {}

        def note(name: str, fn: Any, value: Tensor | None) -> Tensor:
            fns[name] = fn
            if value is not None:
                return value
            shape = len(batch[0]), self.books.sites[name].layout.num_elements
            return self.books.value(name, known.get(name, np.zeros(shape, dtype=np.int32)))

        self.programs.run(role, batch, note, seed)
        return fns

    def _random(self, batch: Sequence[Tensor], generator: np.random.Generator) -> Known:
        return {
            name: generator.integers(
                0, len(book), (len(batch[0]), self.books.sites[name].layout.num_elements), dtype=np.int32
            )
            for name, book in self.books.books.items()
        }

    def _same(
        self, role: Role, name: str, one: tuple[Sequence[Tensor], Known], two: tuple[Sequence[Tensor], Known]
    ) -> bool:
        """Whether a site's distribution is the same in two runs, to the last bit."""
        tables = []
        for batch, known in (one, two):
            fn = self._fns(role, batch, known, 0)[name]
            latent = name in self.books.books
            tables.append(
                [self.books.table(name, fn, one[1][name])] if latent else self.books.data[name].tables(fn)
            )
        return all(np.array_equal(a, b) for a, b in zip(*tables, strict=True))


def _but(values: Known, others: Known, name: str | None) -> Known:
    """The first, with one site of the others."""
    return values if name is None else {**values, name: others[name]}
