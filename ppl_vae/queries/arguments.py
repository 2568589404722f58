"""What users pass to queries, checked: batches, sites, counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ppl_vae.pair import Pair

Batch = Tensor | Sequence[Tensor]


def as_tensors(pair: Pair, batch: Batch) -> tuple[Tensor, ...]:
    """A batch as tensors on the pair's device, with a data dim of one length."""
    items = (batch,) if isinstance(batch, Tensor) else tuple(batch)
    if not items or not all(isinstance(item, Tensor) for item in items):
        kinds = [type(item).__name__ for item in items]
        raise ValueError(
            f"a batch is a tensor, or the tensors that the programs take, got {kinds or 'nothing'}"
        )
    if pair.datum_spec and len(items) != len(pair.datum_spec):
        raise ValueError(f"this pair's batches are {len(pair.datum_spec)} tensors, got {len(items)}")
    for item, (shape, _) in zip(items, pair.datum_spec):
        if item.dim() != len(shape) + 1:
            raise ValueError(
                f"expected a batch of shape {spelled(['n', *shape])}, got {tuple(item.shape)}; "
                f"x[None] makes a batch of a single datum"
            )
    lengths = {len(item) if item.dim() else 0 for item in items}
    if len(lengths) != 1 or 0 in lengths:
        shapes = [tuple(item.shape) for item in items]
        raise ValueError(f"the tensors of a batch must have the same, positive length, got shapes {shapes}")
    return tuple(item.to(pair.device) for item in items)


def spelled(shape: Iterable[int | str]) -> str:
    """A shape in which some sizes are names."""
    return "(" + ", ".join(map(str, shape)) + ")"


def rows(pair: Pair, n: int, like: Batch | None, given: Sequence[str]) -> tuple[Tensor, ...]:
    """n rows to call the programs with: those of `like` again and again, or zeros."""
    if like is None:
        if given:
            raise ValueError(f"given={list(given)} needs the data to hold: pass them as like=")
        return pair.blank_batch(n)
    tensors = as_tensors(pair, like)
    index = torch.arange(n, device=pair.device) % len(tensors[0])
    return tuple(tensor[index] for tensor in tensors)


def check_site(name: str, sites: Iterable[str]) -> None:
    if name not in sites:
        raise ValueError(f"there is no latent site {name!r}: the latent sites are {list(sites)}")


def check_count(what: str, number: int, at_least: int = 1) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < at_least:
        raise ValueError(f"{what} must be a whole number >= {at_least}, got {number!r}")
