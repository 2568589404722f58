"""One pass over the rows of a split: their order, in chunks, and the reading of one chunk after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ppl_vae.data.data_error import DataError


def in_chunks(
    num_data: int,
    batch_size: int,
    device: torch.device,
    drop_last: bool,
    shuffled: Callable[[], Tensor] | None,
) -> tuple[Tensor, ...]:
    """The numbers of all rows on `device`, in order or as `shuffled` has them, `batch_size` at a time.

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
    order = torch.arange(num_data) if shuffled is None else shuffled()
    chunks = order.to(device).split(min(int(batch_size), num_data))
    return chunks[:-1] if drop_last and len(chunks[-1]) < batch_size else chunks


def read(
    rows: Callable[[Tensor], tuple[Tensor, ...]], chunks: tuple[Tensor, ...], *, ahead: int
) -> Iterator[tuple[Tensor, ...]]:
    """What `rows` gives for each chunk of numbers; streamed ones are read `ahead` in a thread."""
    if not ahead:
        for index in chunks:
            yield rows(index)
        return
    reader = ThreadPoolExecutor(1)
    try:
        coming = deque(reader.submit(rows, chunk) for chunk in chunks[:ahead])
        for number in range(len(chunks)):
            raw = coming.popleft().result()
            if number + ahead < len(chunks):
                coming.append(reader.submit(rows, chunks[number + ahead]))
            yield raw
    finally:
        reader.shutdown(cancel_futures=True)  # whoever breaks off does not wait for what was to come
