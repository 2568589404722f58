"""All data through a code, batch after batch: onto the stack, and from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ppl_vae.compression.bit_swap import BitSwap
from ppl_vae.compression.bits_back import BitsBack, Gaps
from ppl_vae.compression.books import Books
from ppl_vae.compression.coder import Stack
from ppl_vae.compression.plan import Plan
from ppl_vae.compression.programs import Programs
from ppl_vae.compression.side import gaps_in, rows_of
from ppl_vae.core.sites import PairError
from ppl_vae.terminal.progress import show_progress

Order = Literal["auto", "bits back", "Bit-Swap"]


@dataclass(frozen=True)
class Coded:
    """The stack after all data, without what was never touched.

    Attributes:
        stack: the words.
        added: bits that the data added.
        begun: random bits that it began with, of those that the words hold.
        stirred: words that were stirred between two batches.
    """

    stack: Stack
    added: int
    begun: int
    stirred: int

    @property
    def unused(self) -> int:
        """Words at the bottom that no pop has reached: two of the lowest stack's words are its state."""
        return max(0, self.stack.lowest - 4)


def code_of(plan: Plan, programs: Programs, frame: Sequence[Tensor]) -> BitsBack:
    """The code that a plan describes.

    Args:
        frame: all data, in which what the sites observe is not looked at.
    """
    books = Books(plan, programs, rows_of(frame, slice(0, 1)))
    return (BitSwap if plan.bit_swap else BitsBack)(plan, programs, books)


def in_order(code: BitsBack, tensors: Sequence[Tensor], order: Order) -> BitsBack:
    """The same code, with pushes and pops in turn where that is possible and wanted.

    Raises:
        PairError: for "Bit-Swap" of a pair that is no chain.
    """
    if order == "bits back":
        return code
    swap = BitSwap(replace(code.plan, bit_swap=True), code.programs, code.books)
    if swap.is_chain(rows_of(tensors, slice(0, min(16, len(tensors[0]))))):
        return swap
    if order == "Bit-Swap":
        raise PairError(
            "Bit-Swap goes along a chain x - z1 - z2 - ..., upwards in the guide and downwards in the model, "
            f"each site given its neighbour alone, and with one sample; the guide draws "
            f"{list(code.plan.guide_order)} and the model {list(code.plan.model_order)}: use a pair such as "
            "models.LadderVAE with guides.BottomUp, or order='bits back'"
        )
    return code


def encoded(code: BitsBack, tensors: Sequence[Tensor], gaps: Gaps, seed: int, progress: bool) -> Coded:
    """Push all data."""
    per_datum = sum(site.layout.num_elements for site in code.plan.latents) * code.plan.num_samples
    # 24 bits are the most that a symbol takes; what is left of them goes in the end
    stack = Stack.fresh(16 + per_datum * code.plan.batch_size, seed)
    before, stirred = stack.num_bits, 0
    for number, rows in _batches(code.plan, len(tensors[0]), "encoding", progress):
        if number == 1:
            stirred = stack.reached
        if number:
            stack.stir(stirred, number)
        code.encode(stack, rows_of(tensors, rows), gaps_in(gaps, rows), number)
    coded = Coded(stack, stack.num_bits - before, before, stirred)
    return replace(coded, begun=before - 32 * coded.unused)


def decoded(
    code: BitsBack, stack: Stack, stirred: int, frame: Sequence[Tensor], gaps: Gaps, progress: bool
) -> tuple[Tensor, ...]:
    """Pop all data.

    Args:
        stirred: as in `Coded`.
    """
    found = [torch.empty(each.shape, dtype=each.dtype) for each in frame]
    every = list(_batches(code.plan, len(frame[0]), "decoding", False))
    with show_progress(len(frame[0]), "decoding", "data", show=progress) as bar:
        for number, rows in reversed(every):
            batch = code.decode(stack, rows_of(frame, rows), gaps_in(gaps, rows), number)
            for whole, part in zip(found, batch, strict=True):
                whole[rows] = part
            if number:
                stack.stir(stirred, number, back=True)
            bar.update(len(batch[0]))
    return tuple(found)


def _batches(plan: Plan, num_data: int, what: str, progress: bool) -> Iterator[tuple[int, slice]]:
    with show_progress(num_data, what, "data", show=progress) as bar:
        for number, first in enumerate(range(0, num_data, plan.batch_size)):
            rows = slice(first, min(first + plan.batch_size, num_data))
            yield number, rows
            bar.update(rows.stop - rows.start)
