"""One pass over the rows of a split: their order, in chunks, and the reading of one chunk after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ppl_vae.data.data_error import DataError


def in_chunks(
    num_data: int,
    batch_size: int,
    device: torch.device,
    shuffle_generator: torch.Generator | None,
    drop_last: bool,
) -> tuple[Tensor, ...]:
    """The numbers of all rows on `device`, in order or shuffled, `batch_size` at a time.

    Raises:
        DataError: `batch_size` is not positive, or `drop_last` would drop everything.
    """
    if batch_size < 1:
        raise DataError(f"batch_size={batch_size}: give at least 1")
    if drop_last and batch_size > num_data:
        raise DataError(
            f"batch_size={batch_size} with drop_last=True drops all {num_data} rows; "
            f"give a smaller batch_size"
        )
    if shuffle_generator is None:
        order = torch.arange(num_data)
    else:
        order = torch.randperm(num_data, generator=shuffle_generator, device=shuffle_generator.device)
    chunks = order.to(device).split(min(batch_size, num_data))
    return chunks[:-1] if drop_last and len(chunks[-1]) < batch_size else chunks


def read(
    rows: Callable[[Tensor], tuple[Tensor, ...]], chunks: tuple[Tensor, ...], *, ahead: bool
) -> Iterator[tuple[Tensor, ...]]:
    """What `rows` gives for each chunk of numbers; where they are streamed, one chunk `ahead` in a thread."""
    if not ahead:
        for index in chunks:
            yield rows(index)
        return
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(rows, chunks[0])
        for following in [*chunks[1:], None]:
            raw = coming.result()
            if following is not None:
                coming = reader.submit(rows, following)
            yield raw
